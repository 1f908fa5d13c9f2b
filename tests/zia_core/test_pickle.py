"""A pickled model, as `torch.save(model, file)` and process pools make it, is the adapted model."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from zia_core import ZeroInitConfig, add, detach, use
from zia_core.precision import compute_in_float32

CONFIG = ZeroInitConfig(prompt_length=5, num_layers=2)
FAMILIES = ["llama-gqa", "bert", "timm"]


def pickled(model: nn.Module) -> nn.Module:
    return pickle.loads(pickle.dumps(model))  # type: ignore[no-any-return]


def saved(model: nn.Module) -> nn.Module:
    file = io.BytesIO()
    torch.save(model, file)
    return torch.load(io.BytesIO(file.getvalue()), weights_only=False)  # type: ignore[no-any-return]


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("copied", [pickled, saved, copy.deepcopy])
@torch.no_grad()
def test_the_copy_is_adapted_and_apart(
    family: str, copied: Callable[[nn.Module], nn.Module]
) -> None:
    model, batch = adapted(family).eval(), inputs(family)
    expected = output(model, batch)
    twin = copied(model)
    assert torch.equal(output(twin, batch), expected)
    for parameter in model.parameters():  # the copy's own forward reads the copy's weights
        parameter.zero_()
    assert torch.equal(output(twin, batch), expected)
    bare = output(build(family).eval(), batch)
    assert torch.equal(output(detach(twin), batch), bare)


@torch.no_grad()
def test_a_copy_generates_and_has_its_named_adapters() -> None:
    model = add(adapted("llama-gqa").eval(), "other", CONFIG)
    open_gates(model, seed=3)
    ids = inputs("llama-gqa")["input_ids"][:1, :4]
    twin = pickled(model)
    for adapter in ("default", "other"):
        with use(model, adapter), use(twin, adapter):
            expected = model.generate(ids, max_new_tokens=4, do_sample=False)
            assert torch.equal(twin.generate(ids, max_new_tokens=4, do_sample=False), expected)


@torch.no_grad()
def test_a_head_in_float32_is_copied() -> None:
    head = nn.Linear(4, 2).bfloat16()
    compute_in_float32(head)
    twin, x = pickled(head), torch.randn(3, 4).bfloat16()
    assert torch.equal(twin(x), head(x))
