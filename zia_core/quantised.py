"""Weights quantised by bitsandbytes or torchao: what is stored, and what a CPU makes of it."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

_PACKS = "support_avx512bf16_for_cpu"  # an attribute of bitsandbytes' 4-bit layers


@dataclass(frozen=True)
class Stored:
    """A weight, and all that its values depend on.

    Attributes:
        kind: its dtype ("bfloat16"), or how it is quantised ("bitsandbytes nf4").
        shape: of the whole weight, however it is packed.
        parts: returns the weight itself, or its codes and scales.
        quantised: whether it is.
    """

    kind: str
    shape: tuple[int, ...]
    parts: Callable[[], tuple[Tensor, ...]]
    quantised: bool = True
    in_pieces: bool = False  # sharded by `fully_shard`


def stored(module: nn.Module, weight: nn.Parameter, rows: int | None = None) -> Stored:
    """How a module stores one of its parameters; the same before and after a forward pass.

    Args:
        module: that has the parameter.
        weight: the parameter.
        rows: only the first ones of it, if it is not quantised.
    """
    values: Any = weight
    if (state := getattr(values, "quant_state", None)) is not None:
        parts = partial(_four_bit, values, state)
        return Stored(f"bitsandbytes {state.quant_type}", tuple(state.shape), parts)
    if type(values).__name__ == "Int8Params":
        return Stored("bitsandbytes int8", tuple(values.shape), partial(_eight_bit, module, values))
    if _is_made_of_others(values):
        kind = f"{type(values).__module__.partition('.')[0]} {type(values).__name__}"
        return Stored(kind, tuple(values.shape), lambda: tuple(_inside(values)))
    plain = weight.detach()[:rows] if rows is not None else weight.detach()
    kind = str(plain.dtype).removeprefix("torch.")
    return Stored(kind, tuple(plain.shape), lambda: (plain,), False, hasattr(plain, "full_tensor"))


def is_quantised(weight: Any) -> bool:
    """Whether a parameter is stored as codes and scales."""
    return (
        getattr(weight, "quant_state", None) is not None
        or type(weight).__name__ == "Int8Params"
        or _is_made_of_others(weight)
    )


def _four_bit(weight: Any, state: Any) -> tuple[Tensor, ...]:
    """Codes in their first order, and scales in bfloat16.

    On a CPU, bitsandbytes packs a weight anew at a forward pass and rounds its scales.
    """
    from bitsandbytes import functional

    codes, scales = weight.data, state.absmax
    if getattr(state, "packing_format_for_cpu", False):
        codes, _ = functional._convert_weight_packed_for_cpu_inverse(codes, copy.copy(state))
        scales = scales.T
    elif state.nested:
        scales = functional.dequantize_blockwise(scales, state.state2) + state.offset
    return codes.view(torch.uint8), scales.flatten().to(torch.bfloat16), state.code


def _eight_bit(module: Any, weight: Any) -> tuple[Tensor, ...]:
    """Codes and scales, which the first forward pass moves from the weight to the module."""
    return weight.data, module.state.SCB if weight.SCB is None else weight.SCB


def _is_made_of_others(weight: Any) -> bool:
    """Whether it is a tensor of several tensors, like torchao's; shards of one are not."""
    return hasattr(weight, "__tensor_flatten__") and not hasattr(weight, "full_tensor")


def _inside(weight: Any) -> Iterator[Tensor]:
    if not _is_made_of_others(weight):
        yield weight
        return
    for name in weight.__tensor_flatten__()[0]:
        yield from _inside(getattr(weight, name))


def without_packing(model: nn.Module) -> list[nn.Module]:
    """Keep 4-bit layers on a CPU as they are, and return those that would have changed.

    In a pass without gradients, CPUs with AVX-512 BF16 pack the weights anew, and no later pass has
    gradients either.
    """
    found = [module for module in model.modules() if vars(module).get(_PACKS)]
    for module in found:
        vars(module)[_PACKS] = False
    return found


def pack_again(layers: Iterable[nn.Module]) -> None:
    """Undo `without_packing`."""
    for module in layers:
        vars(module)[_PACKS] = True


def is_packed(model: nn.Module) -> bool:
    """Whether 4-bit weights were packed in an earlier pass, so that gradients end there."""
    states = (getattr(weight, "quant_state", None) for weight in model.parameters())
    return any(getattr(state, "packing_format_for_cpu", False) for state in states)
