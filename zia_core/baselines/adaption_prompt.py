"""PEFT's port of LLaMA-Adapter."""

from __future__ import annotations

from typing import Any

from torch import nn

from zia_core.errors import ZiaError
from zia_core.four_bit import without_kernel_warning
from zia_core.rollback import all_or_nothing


@all_or_nothing
def adaption_prompt(model: nn.Module, prompt_length: int = 10, num_layers: int = 30) -> Any:
    """PEFT's port of LLaMA-Adapter: one scalar gate per layer, without tanh.

    It recomputes queries and adds its prompt term after a second output projection, but computes
    the same function as `ZeroInitConfig(gate_per="layer", gate_activation="identity")`.

    Args:
        model: a LLaMA or Mistral, bare.
        prompt_length: K.
        num_layers: L, counted from the top.

    Returns:
        A `peft.PeftModel`.

    Raises:
        ZiaError: PEFT does not support the model.
    """
    with without_kernel_warning():
        from peft import AdaptionPromptConfig, get_peft_model

    config = AdaptionPromptConfig(
        adapter_len=prompt_length, adapter_layers=num_layers, task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ZiaError(f"PEFT's AdaptionPrompt does not take this model: {error}.") from error
