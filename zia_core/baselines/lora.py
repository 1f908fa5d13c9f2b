"""LoRA (arXiv 2106.09685) on a language model, by PEFT."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import nn

from zia_core.errors import ZiaError
from zia_core.four_bit import without_kernel_warning
from zia_core.rollback import all_or_nothing


@all_or_nothing
def lora(
    model: nn.Module,
    rank: int = 8,
    alpha: float = 16.0,
    dropout: float = 0.05,
    targets: Sequence[str] = ("q_proj", "v_proj"),
) -> Any:
    """LoRA on a language model, with Alpaca-LoRA's settings by default (arXiv 2106.09685).

    On LLaMA-7B, rank 8 on q and v gives the paper's 4.2M parameters (Table 1). Starts at the
    pretrained model, since B is zero.

    Args:
        model: a language model of transformers, bare.
        rank: r.
        alpha: low-rank terms are scaled by alpha / r.
        dropout: on the input of A.
        targets: names of the adapted layers.

    Returns:
        A `peft.PeftModel`; A and B are float32 whatever the backbone's precision.

    Raises:
        ZiaError: the model has no linear layers with these names.
    """
    with without_kernel_warning():
        from peft import LoraConfig, get_peft_model

    config = LoraConfig(
        r=rank,
        lora_alpha=int(alpha),
        lora_dropout=dropout,
        target_modules=list(targets),
        task_type="CAUSAL_LM",
    )
    try:
        return get_peft_model(model, config)
    except ValueError as error:
        raise ZiaError(f"PEFT's LoRA does not take this model: {error}.") from error
