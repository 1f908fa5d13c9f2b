"""Forward and gradients against the naive float64 reference, for every family and choice."""

from typing import Any

import pytest
import torch
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from tests.zia_core.backbones import (
    BUILD,
    adapted,
    build,
    inputs,
    is_vision,
    naive,
    output,
    references,
)
from zia_core import ZiaError

CHOICES = {
    "paper": {},
    "gate-per-layer": {"gate_per": "layer"},
    "identity-gate": {"gate_activation": "identity"},
    "free-key-value": {"prompt_source": "key_value"},
    "joint": {"softmax": "joint"},
    "joint-free": {"softmax": "joint", "prompt_source": "key_value"},
}


def tolerance(family: str) -> dict[str, float]:
    """float64 rounding, or that of a float32 softmax if there is only eager attention."""
    return {"rtol": 1e-4, "atol": 1e-5} if family == "gemma2" else {"rtol": 1e-8, "atol": 1e-9}


def compare(family: str, padded: bool, **choices: str) -> None:
    ours = adapted(family, **choices).double()
    expected = references(ours)
    batch = inputs(family, padded=padded)
    result = output(ours, batch)
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(3)).double()
    (result * weight).sum().backward()
    with naive(build(family).double().requires_grad_(False), expected) as bare:
        reference = output(bare, batch)
        (reference * weight).sum().backward()
    torch.testing.assert_close(result, reference, **tolerance(family))
    for name, ref in expected.items():
        layer = ours.get_submodule(name).zero_init
        torch.testing.assert_close(layer.prompt.grad, ref.prompt.grad, **tolerance(family))
        assert layer.prompt.grad.abs().max() > 1e-6
        if ref.gate is not None:
            torch.testing.assert_close(layer.gate.grad, ref.gate.grad, **tolerance(family))
            assert layer.gate.grad.abs().min() > 0


@pytest.mark.parametrize("family", BUILD)
def test_family(family: str) -> None:
    compare(family, padded=False)


@pytest.mark.parametrize("family", [f for f in BUILD if not is_vision(f)])
def test_family_with_padding(family: str) -> None:
    compare(family, padded=True)


@pytest.mark.parametrize("choice", CHOICES)
@pytest.mark.parametrize("family", ["llama-gqa", "gemma2", "gemma3", "bert", "timm-qk-norm"])
def test_choice(family: str, choice: str) -> None:
    compare(family, padded=not is_vision(family), **CHOICES[choice])


@pytest.mark.parametrize("family", ["llama-gqa", "mistral", "clip-text", "vit", "timm"])
def test_joint_softmax_without_a_mask(family: str) -> None:
    """Without a mask tensor the kernel is causal; keys put first must not shift that."""
    compare(family, padded=False, softmax="joint")


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "vit"])
@pytest.mark.parametrize("softmax", ["separate", "joint"])
def test_implementations_agree(family: str, softmax: str) -> None:
    """The text path follows `set_attn_implementation` after attaching."""
    model = adapted(family, softmax=softmax).double()
    batch = inputs(family, padded=not is_vision(family))
    results = []
    for name in ("sdpa", "eager"):
        model.set_attn_implementation(name)
        results.append(output(model, batch))
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)  # eager: softmax in float32
    assert not torch.equal(*results)  # two kernels, not one twice


def test_flex_attention_stays_in_use() -> None:
    """Its mask is a block mask, which no other text path accepts."""
    model = adapted("llama-gqa")
    batch = inputs("llama-gqa", padded=True)
    expected = output(model, batch)
    model.set_attn_implementation("flex_attention")
    with torch.no_grad():
        torch.testing.assert_close(output(model, batch), expected, rtol=1e-4, atol=1e-4)


def test_a_registered_attention_sees_its_own_name() -> None:
    """Flash attention looks up its version in the module's config, where our name is."""
    seen = []

    def recording(module: torch.nn.Module, *args: Any, **kwargs: Any) -> Any:
        seen.append((module.config._attn_implementation, module.layer_idx, module.training))
        return ALL_ATTENTION_FUNCTIONS["sdpa"](module, *args, **kwargs)

    AttentionInterface.register("recording", recording)
    AttentionMaskInterface.register("recording", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = adapted("llama-gqa")
    batch = inputs("llama-gqa", padded=True)
    expected = output(model, batch)
    model.set_attn_implementation("recording")
    assert torch.equal(output(model, batch), expected)
    assert seen == [("recording", layer, False) for layer in range(3)]


def test_joint_softmax_names_the_implementations_that_it_needs() -> None:
    model = adapted("llama-gqa", softmax="joint")
    model.set_attn_implementation("flex_attention")
    with pytest.raises(ZiaError, match="eager or sdpa, not flex_attention"):
        output(model, inputs("llama-gqa"))


@torch.no_grad()
def test_only_a_text_of_our_own_is_overwritten() -> None:
    """A registered attention may return a view of its arguments, such as cached values."""
    given = []

    def views(module: Any, query: Any, key: Any, value: Any, *args: Any, **kwargs: Any) -> Any:
        given.append((value, value.clone()))
        return value.transpose(1, 2), None

    AttentionInterface.register("views", views)
    AttentionMaskInterface.register("views", ALL_MASK_ATTENTION_FUNCTIONS["sdpa"])
    model = adapted("llama-mha")
    model.set_attn_implementation("views")
    output(model, inputs("llama-mha"))
    assert len(given) == 3
    assert all(torch.equal(value, before) for value, before in given)
