"""What a training step will need of a GPU's memory, before there is a GPU.

The step is run on torch's meta device, where tensors have sizes and no numbers: a model of seven
billion parameters takes a second and no memory. Counted is every tensor from when an operation
makes it to when nothing holds it any more. Not counted: what an operation needs within itself, and
how the allocator rounds.
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

from zia_core.blocks import blocks_run
from zia_core.errors import ZiaError


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a step of several micro-batches needs.

    Attributes:
        weights: parameters, trained or not, and buffers.
        trained: gradients and AdamW's two moments of what is trained.
        kept: activations that lie there when a micro-batch's forward pass is done.
        working: what is there besides at the worst moment of forward or backward pass: logits and
            their gradients, mostly, or a block that is run again.
    """

    weights: int
    trained: int
    kept: int
    working: int

    @property
    def peak(self) -> int:
        """The most that is there at a time."""
        return self.weights + self.trained + self.kept + self.working


def step_memory(
    model: nn.Module, loss: Callable[[], Tensor], *, checkpoint_activations: bool = False
) -> StepMemory:
    """Predict the memory of a training step from one micro-batch on the meta device.

    Args:
        model: on the meta device, in the mode and precision that it is trained in. The prompt term
            is counted in its plain form, attention as its fused kernels keep it.
        loss: the forward pass of a micro-batch, of the size that is asked about, to a scalar.
        checkpoint_activations: as of `TrainSettings`.

    Raises:
        ZiaError: a parameter is not on the meta device.
    """
    for name, parameter in model.named_parameters():
        if not parameter.is_meta:
            raise ZiaError(f"{name} is on {parameter.device}: build the model on the meta device")
    held = [*model.parameters(), *model.buffers()]
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in trained:  # as of the second micro-batch on
        parameter.grad = torch.empty_like(parameter)
    live = _Live([*held, *(p.grad for p in trained if p.grad is not None)])
    run = blocks_run(model, compiled=False, checkpointed=checkpoint_activations)
    try:
        with run, live, _fused_attention():
            result = loss()
            kept = live.now
            result.backward()
    finally:
        for parameter in trained:
            parameter.grad = None
    return StepMemory(
        weights=_bytes(held), trained=3 * _bytes(trained), kept=kept, working=live.peak - kept
    )


class _Live(TorchDispatchMode):
    """The bytes of all storages that are there now, and the most that were."""

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
    """Without a device torch would take the attention that writes all scores down.

    Replaced by name: a mode of torch's would not be in force where checkpointed blocks run again.
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
    """Keeps its inputs, its output and a number a query; a mask is made additive for each call."""
    if attn_mask is not None and attn_mask.dtype == torch.bool:
        attn_mask = torch.zeros_like(attn_mask, dtype=query.dtype)
    fused = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    out: Tensor = fused(query, key, value, 0.0, is_causal, attn_mask=attn_mask, scale=scale)[0]
    return out


def _bytes(tensors: Iterable[Tensor]) -> int:
    storages = {tensor.untyped_storage()._cdata: tensor.untyped_storage() for tensor in tensors}
    return sum(storage.nbytes() for storage in storages.values())
