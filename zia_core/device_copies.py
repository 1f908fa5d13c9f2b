"""Copy tensors to and from the device with as few synchronisations as possible.

A GPU works through a queue filled by the CPU. Reading a result makes the CPU wait until the queue
is empty, after which the GPU waits for new work.
"""

from collections.abc import Sequence

import torch
from torch import Tensor


def on_device(tensor: Tensor, device: torch.device) -> Tensor:
    """Copy a tensor to the device without blocking the CPU."""
    if device.type == "cuda" and tensor.device.type == "cpu":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)


def read_together(groups: Sequence[Sequence[Tensor]], device: torch.device) -> list[list[float]]:
    """The exact numbers in groups of tensors, read from the device in a single copy."""
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
