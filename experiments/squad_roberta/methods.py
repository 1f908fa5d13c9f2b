"""Prepare an encoder with a question-answering head for a method."""

from typing import TYPE_CHECKING

from experiments.squad_roberta.settings import Settings

if TYPE_CHECKING:
    from torch import nn


def prepare(model: "nn.Module", method: str, settings: Settings) -> "nn.Module":
    """Return the model with the method's trainable parameters; draws from torch's generator.

    Every method trains the head. ZiaError if the method does not support the encoder.
    """
    from zia_core import baselines

    if method == "full":
        return baselines.full(model)
    if method == "prompt-tuning":
        return baselines.prompt_tuning(model, settings.prompt_length)
    if method == "p-tuning-v2":
        return baselines.p_tuning_v2(model, settings.prompt_length, settings.prefix_dropout)
    if method == "lora":
        return baselines.lora_encoder(
            model, settings.lora_rank, settings.lora_alpha, settings.lora_dropout
        )
    return zero_init(model, settings) if method == "zero-init" else baselines.linear_probe(model)


def zero_init(model: "nn.Module", settings: Settings) -> "nn.Module":
    """P-tuning v2's free keys and values with their own softmax and a tanh gate per head.

    All that the paper says is to keep P-tuning v2's prompt tokens in every layer and add zero
    gating.
    """
    from zia_core import ZeroInitConfig, attach, baselines
    from zia_core.families import attention_layers

    config = ZeroInitConfig(
        prompt_length=settings.prompt_length,
        num_layers=len(attention_layers(model)),
        prompt_source="key_value",
    )
    attach(model, config)
    return baselines.train_head(baselines.prefix_dropout(model, settings.prefix_dropout))
