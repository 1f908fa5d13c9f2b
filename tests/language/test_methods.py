"""Which parameters each method trains, with and without an image encoder."""

from typing import Any

import pytest
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.language.methods import METHODS, prepare, projection_parameters, sees_images
from experiments.language.settings import ImageTextSettings
from zia_core.errors import ZiaError

LAYERS, WIDTH, HEADS, ENCODER_WIDTH = 3, 32, 4, 5
SETTINGS = ImageTextSettings(prompt_length=2, num_layers=2, depths=(1, 2), bottleneck=4)


def bare() -> Any:
    return LlamaForCausalLM(
        LlamaConfig(
            vocab_size=40, hidden_size=WIDTH, intermediate_size=48, num_hidden_layers=LAYERS,
            num_attention_heads=HEADS, num_key_value_heads=2,
        )
    )  # fmt: skip


def trained(model: Any) -> int:
    return sum(p.numel() for p in model.parameters() if p.requires_grad)


@pytest.mark.parametrize(("gate_per", "gates"), [("head", HEADS), ("layer", 1)])
def test_a_gate_is_of_a_head_or_of_a_layer(gate_per: Any, gates: int) -> None:
    settings = ImageTextSettings(prompt_length=2, num_layers=2, gate_per=gate_per)
    assert trained(prepare(bare(), "zero-init", settings)) == 2 * (2 * WIDTH + gates)


@pytest.mark.parametrize("method", [name for name in METHODS if sees_images(name)])
def test_a_method_that_sees_images_has_a_projection(method: str) -> None:
    settings = ImageTextSettings(prompt_length=2, num_layers=2, depths=(1, 2), bottleneck=4)
    model = prepare(bare(), method, settings, ENCODER_WIDTH)
    without = prepare(bare(), method, settings)
    assert projection_parameters(without) == 0
    assert 0 < projection_parameters(model) == trained(model) - trained(without)


def test_lora_takes_no_tokens_of_an_image() -> None:
    settings = ImageTextSettings(projection="queries", depths=(2,), query_width=8, query_heads=2)
    with pytest.raises(ZiaError, match="LoRA gets an image as one token"):
        prepare(bare(), "lora", settings, ENCODER_WIDTH)


def test_frozen_trains_nothing_and_full_everything() -> None:
    model = bare()
    everything = sum(p.numel() for p in model.parameters())
    assert trained(prepare(model, "frozen", SETTINGS)) == 0
    assert trained(prepare(bare(), "full", SETTINGS)) == everything
