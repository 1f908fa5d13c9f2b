"""Measure peak memory and the bytes that autograd saves."""

import resource
import sys
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor

_PROCESS = Path("/proc/self")


def reset_peak_memory(device: torch.device) -> None:
    """Start a new measurement, so that a run does not inherit an earlier peak."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    with suppress(OSError):  # Linux only; elsewhere the peak covers the whole process
        (_PROCESS / "clear_refs").write_text("5", encoding="utf-8")


def peak_memory_bytes(device: torch.device) -> int:
    """Peak bytes allocated by torch on a GPU; on a CPU, peak resident set of the process."""
    if device.type == "cuda":
        return torch.cuda.max_memory_allocated(device)
    with suppress(OSError):
        for line in (_PROCESS / "status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmHWM:"):
                return int(line.split()[1]) * 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024  # bytes on macOS, KiB elsewhere


def bytes_kept_for_backward(function: Callable[[], Tensor], beside: Iterable[Tensor] = ()) -> int:
    """Bytes of the distinct storages that autograd saves in a forward pass.

    Args:
        function: the forward pass; its result must require a gradient.
        beside: tensors that exist anyway, such as weights; their storages do not count.
    """
    storages: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        storages[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        result = function()
    assert result.requires_grad
    for tensor in beside:
        storages.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(storages.values())
