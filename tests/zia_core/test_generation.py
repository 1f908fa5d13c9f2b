"""Cached, static-cache, batched and plain generation agree; caches never go stale."""

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import DECODERS, adapted, inputs
from zia_core import frozen_prompts, zero_init_layers


def greedy_by_hand(model: nn.Module, ids: Tensor, steps: int) -> Tensor:
    """Whole forward passes without any cache."""
    for _ in range(steps):
        with torch.enable_grad():  # with autograd on, prompt keys and values are never cached
            following = model(input_ids=ids, use_cache=False).logits[:, -1].argmax(-1)
        ids = torch.cat([ids, following[:, None]], dim=1)
    return ids


@pytest.mark.parametrize("softmax", ["separate", "joint"])
@pytest.mark.parametrize("family", DECODERS)
def test_cached_generation_equals_uncached(family: str, softmax: str) -> None:
    model = adapted(family, softmax=softmax).double()
    ids = inputs(family, length=6)["input_ids"]
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    expected = greedy_by_hand(model, ids, 6)
    assert torch.equal(model.generate(ids, **options), expected)
    static = model.generate(ids, cache_implementation="static", disable_compile=True, **options)
    assert torch.equal(static, expected)


@pytest.mark.parametrize("family", DECODERS)
def test_left_padded_batch_equals_single(family: str) -> None:
    model = adapted(family)
    if family != "gemma2":  # its eager softmax is NaN on fully masked rows of a float64 mask
        model.double()
    ids = inputs(family, batch=1, length=5)["input_ids"]
    pad = torch.zeros(1, 3, dtype=ids.dtype)
    other = inputs(family, batch=1, length=8)["input_ids"]
    batch = torch.cat([torch.cat([pad, ids], 1), other])
    mask = torch.ones_like(batch)
    mask[0, :3] = 0
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    together = model.generate(batch, attention_mask=mask, **options)[0, 3:]
    assert torch.equal(together, model.generate(ids, **options)[0])


def test_prompts_are_projected_once_per_generation() -> None:
    model = adapted("llama-gqa")
    calls = []
    k_proj = model.model.layers[-1].self_attn.k_proj
    handle = k_proj.register_forward_hook(lambda module, args, out: calls.append(args[0].shape))
    model.generate(inputs("llama-gqa")["input_ids"], max_new_tokens=4, do_sample=False)
    handle.remove()
    assert sum(len(shape) == 2 for shape in calls) == 1  # prompts [K, C]; tokens are [B, T, C]
    assert all(layer.state.cache is None for layer in zero_init_layers(model))


def test_a_failing_generation_leaves_no_cache() -> None:
    model = adapted("llama-gqa")
    with pytest.raises(IndexError):
        model.generate(torch.tensor([[10**6]]), max_new_tokens=2)
    assert all(layer.state.cache is None for layer in zero_init_layers(model))


@torch.no_grad()
def test_changed_prompts_inside_the_block_are_noticed() -> None:
    model, batch = adapted("llama-gqa"), inputs("llama-gqa")
    with frozen_prompts(model):
        first = model(**batch).logits
        assert torch.equal(model(**batch).logits, first)
        for layer in zero_init_layers(model):
            layer.gate.mul_(-1.0)
        second = model(**batch).logits
    assert not torch.allclose(first, second)
    assert torch.equal(second, model(**batch).logits)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_kept_copies_for_a_batch_give_the_same_bits(dtype: torch.dtype) -> None:
    """One query per sample: shared prompts are copied once, not at every step."""
    model = adapted("llama-gqa").to(dtype)
    ids = inputs("llama-gqa", batch=3, length=1)["input_ids"]
    with torch.no_grad():
        expected = model(input_ids=ids).logits
        with frozen_prompts(model):
            found = [model(input_ids=ids).logits for _ in range(2)]
            layer = zero_init_layers(model)[0]
            kept = layer.state.cache
            assert kept is not None
            assert kept.prompts is not None
            shared, copied = kept.prompts[1].values()
            assert shared.key.ndim == 3
            assert len(copied.key) == len(copied.value) == 3
            assert copied.key[2].equal(shared.key)
    assert all(torch.equal(logits, expected) for logits in found)
