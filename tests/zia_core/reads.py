"""Count the operations that would make the CPU wait for a GPU; works on a CPU too."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.optim.optimizer import (
    register_optimizer_step_post_hook,
    register_optimizer_step_pre_hook,
)
from torch.utils._python_dispatch import TorchDispatchMode

import zia_core.engine
from zia_core.prefetch import Prefetcher

_ASKING = ("_local_scalar_dense", "nonzero", "masked_select", "unique", "is_nonzero", "equal")


class Reads(TorchDispatchMode):
    """Names of operations that wait, in `found`; `together` counts the engine's own read."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.together = 0
        self.pauses = 0

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        name = func._schema.name.removeprefix("aten::")
        masked = name in ("index", "index_put", "index_put_", "_index_put_impl_") and any(
            isinstance(each, Tensor) and each.dtype in (torch.bool, torch.uint8) for each in args[1]
        )
        if not self.pauses and (masked or any(name.startswith(each) for each in _ASKING)):
            self.found.append(name)
        return func(*args, **(kwargs or {}))

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Do not count within the block, which runs on the CPU whatever the device."""
        self.pauses += 1
        try:
            yield
        finally:
            self.pauses -= 1


@contextmanager
def reads_of_steps() -> Iterator[Reads]:
    """Record the waiting operations of optimiser steps within the block.

    Making batches does not count, nor do AdamW's step counters, which are on the CPU.
    """
    reads = Reads()
    training = zia_core.engine._Training
    together, step, make = zia_core.engine.read_together, training._step, Prefetcher._make

    def counted(*args: Any) -> Any:
        reads.together += 1
        with reads.paused():
            return together(*args)

    def watched(self: Any) -> Any:
        with reads:
            return step(self)

    def made(self: Any, members: Any) -> Any:
        with reads.paused():
            return make(self, members)

    def begin(*_: object) -> None:
        reads.pauses += 1

    def end(*_: object) -> None:
        reads.pauses -= 1

    handles = [register_optimizer_step_pre_hook(begin), register_optimizer_step_post_hook(end)]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zia_core.engine, "read_together", counted)
        patch.setattr(training, "_step", watched)
        patch.setattr(Prefetcher, "_make", made)
        try:
            yield reads
        finally:
            for handle in handles:
                handle.remove()
