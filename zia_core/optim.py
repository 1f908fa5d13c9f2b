"""AdamW's parameter groups and the learning-rate schedule."""

import math
from collections.abc import Iterable
from typing import Any, Literal, TypeAlias

from torch.nn import Parameter

Decay: TypeAlias = Literal["all", "matrices", "none"]


def parameter_groups(
    named_parameters: Iterable[tuple[str, Parameter]], weight_decay: float, decay: Decay = "all"
) -> list[dict[str, Any]]:
    """Split the parameters that require a gradient into a decayed and an undecayed group.

    `decay` names what is decayed. "all": everything, prompts and gates included, as the released
    code does (its rule exempts only 1-D parameters, and its gates are 4-D).
    "matrices": only parameters of two dimensions or more, so prompts but neither gates, norms nor
    biases. "none": nothing. An empty group is left out.
    """
    decayed: list[Parameter] = []
    undecayed: list[Parameter] = []
    for _, parameter in named_parameters:
        if parameter.requires_grad:
            is_decayed = decay == "all" or (decay == "matrices" and parameter.ndim >= 2)
            (decayed if is_decayed else undecayed).append(parameter)
    groups = [
        {"params": decayed, "weight_decay": weight_decay},
        {"params": undecayed, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, minimum: float = 0.0
) -> float:
    """Linear warm-up from 0, then half a cosine from `peak` to `minimum`.

    `step` counts from 0, so with a warm-up the first step's rate is 0 and only AdamW's moments
    move, and the last step, `total_steps - 1`, is one short of `minimum`: the released code's
    schedule at its fractional epoch, in steps.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * progress))


def scaled_peak(base_lr: float, batch_size: int) -> float:
    """The peak rate for an effective batch: base * batch / 256 (the authors, their issue 90)."""
    return base_lr * batch_size / 256
