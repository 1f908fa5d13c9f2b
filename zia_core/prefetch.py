"""Prefetch micro-batches to the device."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Size, Tensor

from zia_core.device_copies import on_device
from zia_core.padding import Padding, is_padding_mask
from zia_core.rng import restore_rng, rng_state
from zia_core.training import TrainTask


@dataclass(frozen=True)
class DeviceBatch:
    """A micro-batch on the device.

    Attributes:
        members: its examples.
        batch: their tensors, as the task made them.
        paddings: where the padding is, by the shape of each padding mask.
    """

    members: Sequence[int]
    batch: dict[str, Tensor]
    paddings: dict[Size, Padding]


class Prefetcher:
    """Makes a task's micro-batches; on a GPU, copies the next while the current one is used."""

    def __init__(self, task: TrainTask, device: torch.device) -> None:
        self._task, self._device = task, device
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        self._next: DeviceBatch | None = None
        self._draws = False  # whether making a batch draws random numbers

    def take(self, members: Sequence[int]) -> DeviceBatch:
        """The micro-batch of these examples, ready for the current stream."""
        made, self._next = self._next, None
        if made is None or made.members != members:
            made = self._make(members)
        if self._stream is not None:
            current = torch.cuda.current_stream(self._device)
            current.wait_stream(self._stream)
            for tensor in made.batch.values():
                tensor.record_stream(current)  # its memory is not reused before then
        return made

    def prefetch(self, members: Sequence[int], *, of_next_step: bool = False) -> None:
        """Start copying the examples that will be taken next; does nothing on a CPU.

        Errors are left to `take`. Checkpoints between steps save the random generators, so a batch
        of the next step that draws from them is not made ahead.
        """
        if self._stream is None or (of_next_step and self._draws):
            return
        before = rng_state() if of_next_step else {}
        with suppress(Exception):
            self._next = self._make(members)
        after = rng_state() if of_next_step else {}
        if not all(torch.equal(after[name], state) for name, state in before.items()):
            self._draws, self._next = True, None
            restore_rng(before)

    def _make(self, members: Sequence[int]) -> DeviceBatch:
        batch = self._task.batch(members)
        masks = [tensor for name, tensor in batch.items() if is_padding_mask(name, tensor)]
        paddings = {mask.shape: Padding.of(mask) for mask in masks}
        if self._stream is not None:
            with torch.cuda.stream(self._stream):
                batch = {name: on_device(value, self._device) for name, value in batch.items()}
        return DeviceBatch(members, batch, paddings)
