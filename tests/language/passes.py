"""Whether passes of a model are under autocast."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn
from transformers import LlamaModel


@contextmanager
def noted() -> Iterator[list[bool]]:
    """Of each pass through a LLaMA within the block, whether it was under autocast."""
    seen: list[bool] = []

    def hook(module: nn.Module, *_: Any) -> None:
        if isinstance(module, LlamaModel):
            seen.append(torch.is_autocast_enabled("cpu"))

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    try:
        yield seen
    finally:
        handle.remove()
