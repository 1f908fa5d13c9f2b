"""Float32 modules in a half-precision backbone, where training would lose small updates."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.errors import ZiaError


def is_half(module: nn.Module) -> bool:
    """Whether any parameter has fewer than 32 bits."""
    return any(p.is_floating_point() and p.itemsize < 4 for p in module.parameters())


def compute_in_float32(module: nn.Module, *, back: bool = False) -> None:
    """Convert a half-precision module to float32, and its inputs at every call.

    Args:
        module: maps tensors to one tensor; unchanged if it is not in half precision.
        back: convert the output back to the input's dtype, for the layers that follow.
    """
    if not is_half(module):
        return
    module.float()
    # Neither a closure nor a bound method: deepcopy and pickle rebind it to the copy.
    module.__dict__["forward"] = partial(_wide_and_back if back else _wide, module)


def _wide(self: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    wide = x.to(next(self.parameters()).dtype)
    return type(self).forward(self, wide, *args, **kwargs)


def _wide_and_back(self: nn.Module, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return _wide(self, x, *args, **kwargs).to(x.dtype)


def refuse_half(model: nn.Module, method: str) -> None:
    """Refuse a half-precision model for a method that trains the backbone's own layers."""
    if is_half(model):
        dtype = next(p.dtype for p in model.parameters() if p.itemsize < 4)
        raise ZiaError(
            f"{method} trains parameters inside the backbone's layers, which are in {dtype}; load "
            f"the model in {torch.float32} (precision bf16-autocast computes in bfloat16)."
        )
