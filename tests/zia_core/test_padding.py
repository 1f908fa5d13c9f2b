"""Masks made from known paddings are those that transformers makes by asking the device."""

from typing import Any

import pytest
import torch
from torch import Tensor
from transformers import LlamaConfig, MistralConfig, RobertaConfig
from transformers.masking_utils import (
    ALL_MASK_ATTENTION_FUNCTIONS,
    create_bidirectional_mask,
    create_causal_mask,
    create_sliding_window_causal_mask,
    sdpa_mask,
)

from tests.zia_core.backbones import adapted, inputs
from tests.zia_core.reads import Reads
from zia_core.losses import causal_lm_loss
from zia_core.padding import Padding, padding_known

CONFIGS = {
    create_causal_mask: LlamaConfig,
    create_bidirectional_mask: RobertaConfig,
    create_sliding_window_causal_mask: MistralConfig,
}


def mask_of(make: Any, kernel: str, padding: Tensor) -> Tensor | None:
    config = (
        CONFIGS[make](sliding_window=3)
        if make is create_sliding_window_causal_mask
        else (CONFIGS[make]())
    )
    config._attn_implementation = kernel
    extra = {} if make is create_bidirectional_mask else {"past_key_values": None}
    words = torch.zeros(*padding.shape, 4)
    return make(config=config, inputs_embeds=words, attention_mask=padding, **extra)


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("make", CONFIGS)
@pytest.mark.parametrize("where", [Padding.NONE, Padding.ANYWHERE])
def test_masks_are_those_of_transformers(make: Any, kernel: str, where: Padding) -> None:
    padding = torch.ones(2, 7, dtype=torch.int64)
    unpadded = where is Padding.NONE
    padding[1, 3:5] = int(unpadded)
    assert Padding.of(padding) is where
    expected = mask_of(make, kernel, padding)
    reads = Reads()
    with padding_known({padding.shape: where}), reads:
        found = mask_of(make, kernel, padding)
    assert reads.found == []
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert torch.equal(found, expected)
    if unpadded and kernel == "sdpa" and make is not create_sliding_window_causal_mask:
        assert found is None  # so that the fastest kernel is used


def test_flash_attention_is_not_told_of_a_mask_that_hides_nothing() -> None:
    padding, reads = torch.ones(2, 7, dtype=torch.int64), Reads()
    with padding_known({padding.shape: Padding.NONE}), reads:
        assert mask_of(create_causal_mask, "flash_attention_2", padding) is None
    assert reads.found == []
    padding[0, 6] = 0
    with padding_known({padding.shape: Padding.ANYWHERE}):
        found = mask_of(create_causal_mask, "flash_attention_2", padding)
    assert found is not None
    assert torch.equal(found, padding.bool())


def test_masks_of_other_batches_are_asked_for_and_nothing_is_left_behind() -> None:
    padding = torch.ones(2, 7, dtype=torch.int64)
    padding[0, 6] = 0
    reads = Reads()
    with padding_known({torch.Size([2, 8]): Padding.NONE}), reads:
        found = mask_of(create_causal_mask, "sdpa", padding)
    assert reads.found
    assert found is not None
    assert not found[0, 0, 6, 6]
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask
    assert "sdpa" not in ALL_MASK_ATTENTION_FUNCTIONS._local_mapping


@pytest.mark.parametrize("kernel", ["sdpa", "eager"])
@pytest.mark.parametrize("make", CONFIGS)
def test_a_causal_mask_needs_no_padding_that_is_last(make: Any, kernel: str) -> None:
    """Tokens see the same; bidirectional attention keeps its mask."""
    padding = torch.ones(2, 7, dtype=torch.int64)
    padding[1, 5:] = 0
    assert Padding.of(padding) is Padding.LAST
    expected = mask_of(make, kernel, padding)
    assert expected is not None
    with padding_known({padding.shape: Padding.LAST}):
        found = mask_of(make, kernel, padding)
    if make is create_causal_mask and kernel == "sdpa":
        assert found is None
        found = torch.ones(7, 7, dtype=torch.bool).tril().expand(2, 1, 7, 7)
    assert found is not None
    found, expected = found.expand(2, -1, -1, -1), expected.expand(2, -1, -1, -1)
    assert found[0].equal(expected[0])
    assert found[1, :, :5].equal(expected[1, :, :5])
    assert found[1, :, 5:].equal(expected[1, :, 5:]) is (make is create_bidirectional_mask)


@pytest.mark.parametrize("family", ["llama-gqa", "gemma2", "mistral"])
def test_nothing_that_is_learned_differs_by_a_bit(family: str) -> None:
    """Loss and gradients of the tokens, with and without a mask."""
    batch = inputs(family, length=9)
    mask = torch.ones(2, 9, dtype=torch.int64)
    mask[1, 5:] = 0
    labels = batch["input_ids"].masked_fill(mask == 0, -100)
    found = []
    for where in (Padding.ANYWHERE, Padding.LAST):
        model = adapted(family)
        with padding_known({mask.shape: where}):
            loss, _ = causal_lm_loss(model, batch["input_ids"], mask, labels)
        loss.backward()
        gradients = [p.grad for p in model.parameters() if p.grad is not None]
        found.append([loss, *gradients])
    assert all(torch.equal(x, y) for x, y in zip(*found, strict=True))
