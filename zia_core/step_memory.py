"""Predict the GPU memory of a training step, without a GPU.

The step runs on torch's meta device, where tensors have sizes but no data: a model of seven billion
parameters takes a second and no memory. Every tensor counts from its creation until its last
reference is gone; workspace inside an operation and the allocator's rounding do not.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from zia_core.blocks import run_blocks
from zia_core.errors import ZiaError
from zia_core.four_bit import scales

__all__ = ["StepMemory", "step_memory"]


@dataclass(frozen=True)
class StepMemory:
    """The bytes that a step of several micro-batches takes.

    Attributes:
        weights: parameters, trained or not, buffers, and the scales of 4-bit weights.
        trained: gradients and AdamW's two moments of the trained parameters.
        kept: activations saved at the end of a micro-batch's forward pass.
        working: the most that is needed on top: mostly logits and their gradients, or a recomputed
            block.
    """

    weights: int
    trained: int
    kept: int
    working: int

    @property
    def peak(self) -> int:
        """The most bytes in use at a time: the sum of all four."""
        return self.weights + self.trained + self.kept + self.working


def step_memory(
    model: nn.Module, loss: Callable[[], Tensor], *, checkpoint_activations: bool = False
) -> StepMemory:
    """Predict the memory of a training step from one micro-batch on the meta device.

    Args:
        model: on the meta device, in its training mode and precision. The prompt term counts in its
            plain form, attention as fused kernels save it.
        loss: the forward pass of a micro-batch to a scalar, its inputs on the meta device too. If
            nothing is trained, it is all that is counted.
        checkpoint_activations: recompute blocks in the backward pass, as in `TrainSettings`.

    Raises:
        ZiaError: a parameter is not on the meta device.
    """
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            raise ZiaError(f"{name} is on {parameter.device}: build the model on the meta device")
    held = [*model.parameters(), *model.buffers(), *scales(model)]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:  # gradients exist from the second micro-batch on
        parameter.grad = torch.empty_like(parameter)
    live = _Live([*held, *(p.grad for p in trained if p.grad is not None)])
    run = run_blocks(model, compiled=False, checkpointed=checkpoint_activations)
    try:
        with run, live, _fused_attention(), torch.set_grad_enabled(bool(trained)):
            result = loss()
            kept = live.now
            if trained:
                result.backward()
    finally:
        for parameter in trained:
            parameter.grad = None
    return StepMemory(
        weights=_bytes(held), trained=3 * _bytes(trained), kept=kept, working=live.peak - kept
    )


class _Live(TorchDispatchMode):
    """Counts the bytes of all live storages, and their peak."""

    def __init__(self, beside: Iterable[Tensor]) -> None:
        super().__init__()
        self.now = self.peak = 0
        self._storages = {tensor.untyped_storage()._cdata for tensor in beside}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(result):
            if isinstance(tensor, Tensor):
                self._count(tensor.untyped_storage())
        return result

    def _count(self, storage: torch.UntypedStorage) -> None:
        if storage._cdata in self._storages:
            return
        self._storages.add(storage._cdata)
        self.now += storage.nbytes()
        self.peak = max(self.peak, self.now)
        weakref.finalize(storage, self._freed, storage._cdata, storage.nbytes())

    def _freed(self, storage: int, size: int) -> None:
        self._storages.discard(storage)
        self.now -= size


@contextmanager
def _fused_attention() -> Iterator[None]:
    """Use fused attention; without a device, torch would choose the one that stores all scores.

    Patched by name, since a torch mode would not reach recomputed blocks.
    """
    own = functional.scaled_dot_product_attention
    vars(functional)["scaled_dot_product_attention"] = _fused
    try:
        yield
    finally:
        vars(functional)["scaled_dot_product_attention"] = own


def _fused(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_mask: Tensor | None = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,
    scale: float | None = None,
    enable_gqa: bool = False,
) -> Tensor:
    """Saves inputs, output and one number per query; makes boolean masks additive in each call.

    Inputs of several precisions, as under autocast, are computed in the lowest.
    """
    if torch.bfloat16 in (query.dtype, key.dtype, value.dtype):
        query, key, value = query.bfloat16(), key.bfloat16(), value.bfloat16()
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out: Tensor = fused(query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())
