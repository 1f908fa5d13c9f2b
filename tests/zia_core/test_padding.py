"""Masks that are made from what is known are those that transformers asks the device for."""

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

from tests.zia_core.reads import Reads
from zia_core.padding import padding_known

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
@pytest.mark.parametrize("unpadded", [True, False])
def test_masks_are_those_of_transformers(make: Any, kernel: str, unpadded: bool) -> None:
    padding = torch.ones(2, 7, dtype=torch.int64)
    padding[1, 5:] = int(unpadded)
    expected = mask_of(make, kernel, padding)
    reads = Reads()
    with padding_known({padding.shape: unpadded}), reads:
        found = mask_of(make, kernel, padding)
    assert reads.found == []
    assert (found is None) == (expected is None)
    if found is not None and expected is not None:
        assert torch.equal(found, expected)
    if unpadded and kernel == "sdpa" and make is not create_sliding_window_causal_mask:
        assert found is None  # so that the fastest kernel is used


def test_flash_attention_is_not_told_of_a_mask_that_hides_nothing() -> None:
    padding, reads = torch.ones(2, 7, dtype=torch.int64), Reads()
    with padding_known({padding.shape: True}), reads:
        assert mask_of(create_causal_mask, "flash_attention_2", padding) is None
    assert reads.found == []
    padding[0, 6] = 0
    with padding_known({padding.shape: False}):
        found = mask_of(create_causal_mask, "flash_attention_2", padding)
    assert found is not None
    assert torch.equal(found, padding.bool())


def test_masks_of_other_batches_are_asked_for_and_nothing_is_left_behind() -> None:
    padding = torch.ones(2, 7, dtype=torch.int64)
    padding[0, 6] = 0
    reads = Reads()
    with padding_known({torch.Size([2, 8]): True}), reads:
        found = mask_of(create_causal_mask, "sdpa", padding)
    assert reads.found
    assert found is not None
    assert not found[0, 0, 6, 6]
    assert ALL_MASK_ATTENTION_FUNCTIONS["sdpa"] is sdpa_mask
    assert "sdpa" not in ALL_MASK_ATTENTION_FUNCTIONS._local_mapping
