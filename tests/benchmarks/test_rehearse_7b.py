"""The step at LLaMA-7B's shape, at tiny sizes; and the shape itself, without numbers."""

from dataclasses import replace

import pytest
import torch

from benchmarks import rehearse_7b
from benchmarks.models import random_llama
from benchmarks.rehearse_7b import STEP, Shape
from benchmarks.toy_sizes import TOY
from zia_core import ZeroInitConfig, attach
from zia_core.baselines import tuned_parameters
from zia_core.errors import ZiaError

TINY = Shape(**TOY["rehearse_7b"])  # type: ignore[arg-type]


def test_a_step_is_taken_and_reported() -> None:
    step = rehearse_7b.measure(TINY, 1)["parts"]["a step"]
    figures = step["figures"][STEP]
    assert figures["trained parameters"] == 2 * (3 * 32 + 4)  # prompts and gates
    assert figures["adapter, bytes"] > 4 * figures["trained parameters"]
    assert 3 < figures["loss"] < 6  # ln 64 is 4.2
    assert figures["peak of the process, bytes"] > 50_000_000
    assert len(step["seconds"][STEP]) == 1


def test_the_real_shape_trains_1_229_760_parameters() -> None:
    model = random_llama(replace(Shape(), device="meta"))
    assert sum(parameter.nbytes for parameter in model.parameters()) == 13_476_831_232
    assert tuned_parameters(attach(model, ZeroInitConfig(10, 30))) == 1_229_760


def test_weights_are_filled_in_place_of_the_meta_ones() -> None:
    """The same model as one that is built as usual, but for the numbers of its weights."""
    filled, usual = rehearse_7b.filled(TINY), random_llama(TINY)
    assert filled.state_dict().keys() == usual.state_dict().keys()
    for name, weight in filled.state_dict().items():
        assert (weight.dtype, weight.shape) == (
            usual.state_dict()[name].dtype,
            usual.state_dict()[name].shape,
        )
    for (name, own), (_, other) in zip(filled.named_buffers(), usual.named_buffers(), strict=True):
        assert torch.equal(own, other), name
    embedding = filled.get_input_embeddings().weight  # type: ignore[operator]
    assert float(embedding.float().std()) == pytest.approx(0.02, rel=0.1)


def test_too_little_memory_is_refused_before_weights_are_made(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rehearse_7b, "available_bytes", lambda: 10**10)
    with pytest.raises(ZiaError, match=r"^17\.5 GB of memory are needed, and 10\.0 GB are free"):
        rehearse_7b.measure(Shape(), 1)
