"""Prepare an encoder with a question-answering head for a method."""

from typing import TYPE_CHECKING, Any

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
    if method == "zero-init":
        return gated_prefix(model, settings)
    if method == "random-init-gate":
        return gated_prefix(model, settings, gate_init=1.0, gate_activation="identity")
    return baselines.linear_probe(model)


def gated_prefix(model: "nn.Module", settings: Settings, **gates: Any) -> "nn.Module":
    """P-tuning v2's free keys and values with their own softmax and a gate per head.

    All that the paper says is to keep P-tuning v2's prompt tokens in every layer and add zero
    gating. `gates` are fields of ZeroInitConfig; without them, tanh gates that start at zero.
    """
    from zia_core import ZeroInitConfig, attach, baselines
    from zia_core.families import attention_layers

    config = ZeroInitConfig(
        prompt_length=settings.prompt_length,
        num_layers=len(attention_layers(model)),
        prompt_source="key_value",
        **gates,
    )
    attach(model, config)
    return baselines.train_head(baselines.prefix_dropout(model, settings.prefix_dropout))
