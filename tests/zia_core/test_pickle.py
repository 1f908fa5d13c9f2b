"""A pickled model, as `torch.save(model, file)` and process pools make it, is the adapted model."""

import copy
import io
import pickle
from collections.abc import Callable

import pytest
import torch
from torch import nn

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from tests.zia_core.test_wrappers import with_lora
from zia_core import (
    VisualConfig,
    ZeroInitConfig,
    add,
    attach,
    attach_visual,
    detach,
    use,
)
from zia_core.baselines import prefix_dropout, vpt
from zia_core.hf_trainer import AdapterCheckpoints
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


KEY_VALUE = ZeroInitConfig(prompt_length=4, num_layers=2, prompt_source="key_value")


def checkpointed(model: nn.Module) -> nn.Module:
    AdapterCheckpoints().on_init_end(None, None, None, model=model)
    return model


@pytest.mark.parametrize(
    ("make", "family"),
    [
        (lambda: attach_visual(adapted("llama-gqa"), VisualConfig(6)), "llama-gqa"),
        (lambda: prefix_dropout(attach(build("bert"), KEY_VALUE), 0.1), "bert"),
        (lambda: checkpointed(adapted("llama-gqa")), "llama-gqa"),
        (lambda: checkpointed(attach(with_lora(build("llama-gqa")), CONFIG)), "llama-gqa"),
        (lambda: vpt(build("timm"), 4, deep=True), "timm"),
    ],
    ids=["visual", "prefix dropout", "Trainer's checkpoints", "beside PEFT", "VPT"],
)
@torch.no_grad()
def test_what_else_is_put_on_a_model_is_copied(make: Callable[[], nn.Module], family: str) -> None:
    model = open_gates(make().eval(), seed=1)
    expected = output(model, inputs(family))
    assert torch.equal(output(pickled(model), inputs(family)), expected)


@torch.no_grad()
def test_a_head_in_float32_is_copied() -> None:
    head = nn.Linear(4, 2).bfloat16()
    compute_in_float32(head)
    twin, x = pickled(head), torch.randn(3, 4).bfloat16()
    assert torch.equal(twin(x), head(x))
