"""A backbone made ready for a method of the table."""

from typing import TYPE_CHECKING

from experiments.alpaca_llama.settings import Settings

if TYPE_CHECKING:
    from torch import nn

ZERO_INIT = ("zero-init", "random-init", "random-init-gate")


def prepare(model: "nn.Module", method: str, settings: Settings) -> "nn.Module":
    """Return the model with the method's trainable parameters; draws from torch's generator."""
    from zia_core import ZeroInitConfig, attach, baselines

    if method in ZERO_INIT:
        return attach(
            model,
            ZeroInitConfig(
                prompt_length=settings.prompt_length,
                num_layers=settings.num_layers,
                softmax=settings.softmax,
                gate_per=settings.gate_per,
                gate_activation=settings.gate_activation,
                gate_init=settings.gate_init,
            ),
        )
    if method == "adaption-prompt":
        return baselines.adaption_prompt(model, settings.prompt_length, settings.num_layers)
    if method == "lora":
        return baselines.lora(model, settings.lora_rank, settings.lora_alpha, settings.lora_dropout)
    return baselines.full(model) if method == "full" else baselines.frozen(model)
