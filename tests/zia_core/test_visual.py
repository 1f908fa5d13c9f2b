"""Image-conditioned prompts: against the naive reference, in mixed batches, in generation."""

from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import build, inputs, naive, output, references
from tests.zia_core.visual_reference import (
    CONFIGS,
    batch_of,
    features,
    leaves,
    naive_vectors,
    of,
    seeing,
)
from zia_core import VisualConfig, ZeroInitConfig, attach, attach_visual, frozen_prompts, images
from zia_core import zero_init_layers as layers_of
from zia_core.baselines import tuned_parameters
from zia_core.families import projection as family_projection

PROJECTIONS = list(CONFIGS)
FAMILIES = ["llama-gqa", "llama-head-dim", "qwen3", "gemma2", "gemma3", "bert", "timm-qk-norm"]
MIXED = torch.tensor([True, False, True])


def loose(family: str) -> dict[str, Any]:
    """Gemma 2 has only eager attention, whose softmax is float32."""
    return {"rtol": 1e-4, "atol": 1e-5} if family == "gemma2" else {"rtol": 1e-8, "atol": 1e-9}


def close(ours: Tensor | None, theirs: Tensor | None, family: str) -> None:
    assert ours is not None
    assert theirs is not None
    # Gradients are sums over all tokens, of very different sizes.
    scale = float(theirs.abs().max())
    limits = loose(family)
    torch.testing.assert_close(ours, theirs, rtol=limits["rtol"], atol=limits["atol"] * scale * 10)


def compare(family: str, projection: str, has_image: Tensor | None, **choices: str) -> None:
    """Outputs and all gradients against prompts that contain the image, sample by sample."""
    model = seeing(family, projection, **choices).double()
    batch, shown = batch_of(family), features(projection, 3).double()
    weight = torch.randn(output(model, batch).shape, generator=torch.Generator().manual_seed(1))
    with images(model, shown, has_image):
        result = output(model, batch)
        (result * weight).sum().backward()

    parameters, expected = leaves(model), references(model)
    learned = {name: ref.prompt for name, ref in expected.items()}
    for row in range(3):
        for name, ref in expected.items():
            seen = has_image is None or bool(has_image[row])
            added = naive_vectors(projection, parameters, shown[row]) if seen else 0.0
            ref.prompt = learned[name] + added
        sample = {name: value[row : row + 1] for name, value in batch.items()}
        with naive(build(family).double().requires_grad_(False), expected) as bare:
            reference = output(bare, sample)
        torch.testing.assert_close(result[row : row + 1], reference, **loose(family))
        (reference * weight[row : row + 1]).sum().backward()
    for name, parameter in of(model).named_parameters():
        close(parameter.grad, parameters[name].grad, family)
    for name, ref in expected.items():
        layer = model.get_submodule(name).zero_init
        close(layer.prompt.grad, learned[name].grad, family)
        if ref.gate is not None:
            close(layer.gate.grad, ref.gate.grad, family)


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("family", FAMILIES)
def test_mixed_batch_against_the_reference(family: str, projection: str) -> None:
    compare(family, projection, MIXED)


@pytest.mark.parametrize("softmax", ["separate", "joint"])
@pytest.mark.parametrize("projection", PROJECTIONS)
def test_an_image_with_every_sample(projection: str, softmax: str) -> None:
    compare("llama-gqa", projection, None, softmax=softmax)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_mixed_batch_with_one_softmax(projection: str) -> None:
    compare("llama-gqa", projection, MIXED, softmax="joint")


@pytest.mark.parametrize("softmax", ["separate", "joint"])
@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("family", ["llama-mha", "llama-gqa", "qwen3", "gemma2", "bert"])
def test_without_an_image_it_is_the_text_only_output(
    family: str, projection: str, softmax: str
) -> None:
    """Bitwise, whatever the other samples see and whatever its own features are."""
    model, batch = seeing(family, projection, softmax=softmax), batch_of(family)
    shown = features(projection, 3)
    shown[1] = torch.nan
    with torch.no_grad():
        plain = output(model, batch)
        with images(model, shown, MIXED):
            mixed = output(model, batch)
        assert torch.equal(mixed[1], plain[1])
        assert not torch.allclose(mixed[0], plain[0])
        assert not torch.allclose(mixed[2], plain[2])
        with images(model, shown, torch.zeros(3, dtype=torch.bool)):
            assert torch.equal(output(model, batch), plain)
        assert torch.equal(output(model, batch), plain)


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_a_batch_without_images_gives_every_parameter_a_gradient_of_zeros(projection: str) -> None:
    model, batch = seeing("llama-gqa", projection), batch_of("llama-gqa")
    shown = torch.full_like(features(projection, 3), torch.inf)
    with images(model, shown, torch.zeros(3, dtype=torch.bool)):
        output(model, batch).square().sum().backward()
    for name, parameter in of(model).named_parameters():
        assert parameter.grad is not None, name
        assert not parameter.grad.any(), name
    assert layers_of(model)[0].prompt.grad is not None


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_at_zero_gates_an_image_changes_no_bit(projection: str) -> None:
    model, batch = seeing("llama-gqa", projection), batch_of("llama-gqa")
    before = output(build("llama-gqa"), batch)
    for layer in layers_of(model):
        layer.gate.data.zero_()
    with images(model, features(projection, 3), MIXED):
        assert torch.equal(output(model, batch), before)


def test_global_images_leave_the_keys_and_the_weights_of_the_prompts_alone() -> None:
    """Without key norm and with one vector, an image cannot make a query prefer a prompt."""
    model = seeing("llama-gqa", "global").double()
    layer = layers_of(model)[0]
    project = family_projection(model.model.layers[-2].self_attn)
    plain = layer(project, torch.float64, 3)
    with images(model, features("global", 3).double(), MIXED):
        seen = layer(project, torch.float64, 3)
    assert seen.key.shape == (4, 5, 12)  # [H, K, D]: none for each sample
    assert torch.equal(seen.key, plain.key)
    assert torch.equal(seen.value, plain.value)
    assert seen.shift is not None
    assert seen.shift.shape == (3, 4, 1, 12)
    normed = seeing("qwen3", "global")
    with images(normed, features("global", 3)):
        other = layers_of(normed)[0](
            family_projection(normed.model.layers[-2].self_attn), torch.float32, 3
        )
    assert other.key.shape == (3, 4, 5, 16)  # a norm of P + I is not that of P plus that of I


@pytest.mark.parametrize("projection", PROJECTIONS)
@pytest.mark.parametrize("family", ["llama-gqa", "gemma3"])
def test_generation_with_images(family: str, projection: str) -> None:
    """Cached = static cache = uncached, left-padded = alone, with and without an image."""
    model = seeing(family, projection).double()
    for layer in layers_of(model):
        layer.gate.data.mul_(3)
    shown = features(projection, 3).double() * 3
    ids = batch_of(family)["input_ids"]
    mask = torch.ones_like(ids)
    mask[0, :4], mask[1, :2] = 0, 0
    ids[mask == 0] = 0
    options: dict[str, Any] = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    with images(model, shown, MIXED):
        cached = model.generate(ids, attention_mask=mask, **options)
        static = model.generate(
            ids, attention_mask=mask, cache_implementation="static", disable_compile=True, **options
        )
    assert torch.equal(static, cached)
    for row in range(3):
        alone = ids[row : row + 1, mask[row].bool()]
        with images(model, shown[row : row + 1], MIXED[row : row + 1]):
            together = cached[row, -alone.shape[1] - 5 :]
            assert torch.equal(model.generate(alone, **options)[0], together)
            assert torch.equal(uncached(model, alone)[0], together)
    blind = model.generate(ids, attention_mask=mask, **options)
    assert torch.equal(blind[1], cached[1])
    assert not torch.equal(blind, cached)
    assert all(layer.condition is None and layer.state.cache is None for layer in layers_of(model))


def uncached(model: nn.Module, ids: Tensor) -> Tensor:
    """Whole forward passes with autograd on, so that no prompt is cached."""
    for _ in range(5):
        following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, following[:, None]], dim=1)
    return ids


@torch.no_grad()
def test_two_images_inside_one_block_of_frozen_prompts() -> None:
    model, batch = seeing("llama-gqa", "global"), batch_of("llama-gqa")
    shown = [features("global", 3, seed) for seed in (1, 2)]
    fresh = []
    for each in shown:
        with images(model, each):
            fresh.append(output(model, batch))
    with frozen_prompts(model):
        for each, expected in zip(shown, fresh, strict=True):
            with images(model, each):
                assert torch.equal(output(model, batch), expected)
    assert not torch.allclose(*fresh)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_backbones_keep_a_float32_projection(dtype: torch.dtype) -> None:
    model = build("llama-gqa").to(dtype)
    attach_visual(attach(model, ZeroInitConfig(prompt_length=5, num_layers=2)), CONFIGS["queries"])
    assert {p.dtype for p in of(model).parameters()} == {torch.float32}
    for layer in layers_of(model):
        layer.gate.data.fill_(0.5)
    with images(model, features("queries", 2).to(dtype), torch.tensor([True, False])):
        result = output(model, inputs("llama-gqa"))
        result.float().sum().backward()
    assert result.dtype == dtype
    assert of(model).query.grad is not None
    assert of(model).query.grad.dtype == torch.float32


def test_a_float64_backbone_has_a_float64_projection() -> None:
    model = attach(build("llama-gqa").double(), ZeroInitConfig(prompt_length=5, num_layers=2))
    assert {p.dtype for p in of(attach_visual(model, CONFIGS["global"])).parameters()} == {
        torch.float64
    }


@pytest.mark.parametrize("projection", PROJECTIONS)
def test_gradient_checkpointing_inside_the_block(projection: str) -> None:
    gradients = []
    for checkpointing in (False, True):
        model = seeing("llama-gqa", projection).double().train()
        if checkpointing:
            model.gradient_checkpointing_enable()
        with images(model, features(projection, 3).double(), MIXED):
            output(model, batch_of("llama-gqa")).square().sum().backward()
        gradients.append([p.grad for p in of(model).parameters()])
    for plain, recomputed in zip(*gradients, strict=True):
        torch.testing.assert_close(plain, recomputed)


def test_the_paper_s_number_of_parameters() -> None:
    """0.6M: bottleneck 64 on six depths of width 768, to LLaMA-7B's 4096 (meta device)."""
    from transformers import LlamaConfig, LlamaForCausalLM

    with torch.device("meta"):
        model = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=8,
                hidden_size=4096,
                intermediate_size=8,
                num_hidden_layers=32,
                num_attention_heads=32,
            )
        )
    attach(model, ZeroInitConfig(prompt_length=10, num_layers=30))
    assert tuned_parameters(model) == 1_229_760
    attach_visual(model, VisualConfig(encoder_width=768, depths=(2, 4, 6, 8, 10, 12)))
    assert sum(p.numel() for p in of(model).parameters()) == 561_216
    assert tuned_parameters(model) == 1_229_760 + 561_216  # the paper's 1.8M
