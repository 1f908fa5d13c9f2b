"""AdamW's parameter groups and the learning-rate schedule."""

import math
import re
from collections.abc import Iterable, Mapping
from types import MappingProxyType
from typing import Any, Literal, TypeAlias

from torch.nn import Parameter

__all__ = ["learning_rate", "parameter_groups", "scaled_peak"]

_GATE = re.compile(r"\.zero_init\.(.+\.)?gate$")  # of the one adapter, or of one with a name
Decay: TypeAlias = Literal["all", "all-but-gates", "matrices", "none"]


def parameter_groups(
    named_parameters: Iterable[tuple[str, Parameter]],
    weight_decay: float,
    decay: Decay = "all",
    rates: Mapping[str, float] = MappingProxyType({}),
) -> list[dict[str, Any]]:
    """Group the parameters that require a gradient by weight decay and learning-rate factor.

    Args:
        named_parameters: from `model.named_parameters()`.
        weight_decay: of the decayed groups.
        decay: "all": everything, prompts and gates included, as in the released code (which exempts
            only 1-D parameters, and its gates are 4-D). "all-but-gates": everything except the
            gates of zero-init attention. "matrices": parameters of two dimensions or
            more, so prompts but not gates, norms or biases. "none": nothing.
        rates: learning-rate factors by module name, 1 if not listed.

    Returns:
        Groups for `torch.optim`, none of them empty. torch ignores their "rate": multiply each
        step's learning rate by it.
    """
    found: dict[tuple[float, bool], list[Parameter]] = {(1.0, True): [], (1.0, False): []}
    for name, parameter in named_parameters:
        if parameter.requires_grad:
            is_decayed = (
                decay == "all"
                or (decay == "all-but-gates" and not _GATE.search(f".{name}"))
                or (decay == "matrices" and parameter.ndim >= 2)
            )
            rate = next((rates[part] for part in name.split(".") if part in rates), 1.0)
            found.setdefault((rate, is_decayed), []).append(parameter)
    return [
        {"params": params, "weight_decay": weight_decay if is_decayed else 0.0, "rate": rate}
        for (rate, is_decayed), params in found.items()
        if params
    ]


def learning_rate(
    step: int, *, peak: float, warmup_steps: int, total_steps: int, minimum: float = 0.0
) -> float:
    """The rate of a step: linear warm-up from 0, then half a cosine from `peak` to `minimum`.

    This is the released code's schedule, in steps instead of fractional epochs. With a warm-up the
    first step has rate 0 and updates only AdamW's moments.

    Args:
        step: counts from 0; the last one, `total_steps - 1`, is one short of `minimum`.
        peak: the highest rate.
        warmup_steps: until the peak.
        total_steps: of the whole training.
        minimum: the rate at the end.
    """
    if step < warmup_steps:
        return peak * step / warmup_steps
    progress = (step - warmup_steps) / (total_steps - warmup_steps)
    return minimum + (peak - minimum) * 0.5 * (1.0 + math.cos(math.pi * progress))


def scaled_peak(base_lr: float, batch_size: int) -> float:
    """The peak rate by the released code's rule: `base_lr * batch_size / 256` (its issue 90).

    Args:
        base_lr: the rate for 256 examples.
        batch_size: examples of one optimiser step, on all devices and accumulation steps.
    """
    return base_lr * batch_size / 256
