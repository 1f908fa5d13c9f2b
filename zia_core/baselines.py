"""What zero-init attention is compared with, behind the same interface: a model in, a model out.

Each function freezes the backbone except for what its method trains. LoRA and AdaptionPrompt are
PEFT's own.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from zia_core.attachment import Model
from zia_core.errors import ZiaError


def frozen(model: Model) -> Model:
    """The pretrained model: nothing is trained."""
    model.requires_grad_(False)
    return model


def full(model: Model) -> Model:
    """Full fine-tuning: every parameter is trained."""
    model.requires_grad_(True)
    return model


def lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.05,
    targets: Sequence[str] = ("q_proj", "v_proj"),
) -> Any:
    """LoRA on some of the linear layers; the defaults are Alpaca-LoRA's.

    At LLaMA-7B's shape rank 8 on q and v is the paper's 4.2M parameters (Table 1). Starts at the
    pretrained model, since B is zero.

    Returns:
        A `peft.PeftModel`; A and B are float32 whatever the backbone's precision.
    """
    from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha),
        lora_dropout=dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
    )
    return get_peft_model(model, config)


def adaption_prompt(model: nn.Module, prompt_length: int = 10, num_layers: int = 30) -> Any:
    """PEFT's port of LLaMA-Adapter: one scalar gate per layer, without tanh.

    It recomputes queries and adds its prompt term behind a second output projection; the function
    is that of `ZeroInitConfig(gate_per="layer", gate_activation="identity")`.

    Raises:
        ZiaError: PEFT does not know the model's type.
    """
    from peft import AdaptionPromptConfig, get_peft_model

    config = AdaptionPromptConfig(
        adapter_len=prompt_length, adapter_layers=num_layers, task_type="CAUSAL_LM"
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ZiaError(f"PEFT's AdaptionPrompt does not take this model: {error}.") from error


def tuned_parameters(model: nn.Module) -> int:
    """How many parameters are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
