"""To the device and back without waiting where that can be.

A GPU works through a queue that the CPU fills. Whatever the CPU wants to know of a result makes it
wait until the queue is empty, and then the GPU waits until there is work again.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """The tensor there; the CPU does not wait for a copy that it begins."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def read_together(groups: Sequence[Sequence[Tensor]], device: torch.device) -> list[list[float]]:
    """The numbers in groups of tensors, exactly, in one copy from the device: the only wait."""
    wide = [
        torch.cat([on_device(part.detach(), device).double().flatten() for part in group])
        if group
        else torch.empty(0, dtype=torch.float64, device=device)
        for group in groups
    ]
    numbers: list[float] = torch.cat(wide).tolist()
    found = []
    for part in wide:
        found.append(numbers[: len(part)])
        numbers = numbers[len(part) :]
    return found
