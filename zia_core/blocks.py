"""Checkpoint or compile a model's repeated blocks during training.

Checkpointed blocks save only their input and are recomputed in the backward pass: the activations
of one block at a time, for about a third more time. Compiled blocks share one region of
torch.compile, so compilation takes as long as for a single block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import copy_context
from typing import Any

import torch
from torch import nn
from torch.utils.checkpoint import checkpoint

from zia_core.errors import ZiaError

Forward = Callable[..., Any]


def repeated_blocks(model: nn.Module) -> list[nn.Module]:
    """The blocks of the largest stack in a model, a stack being consecutive modules of one class.

    Raises:
        ZiaError: the model has no such stack.
    """
    stacks = [
        list(module)
        for module in model.modules()
        if isinstance(module, nn.ModuleList | nn.Sequential)
        and len({type(block) for block in module}) == 1
    ]
    if not stacks:
        raise ZiaError(
            f"{type(model).__name__} has no stack of blocks of one kind; train it without compile "
            "and checkpoint_activations"
        )
    return max(stacks, key=lambda blocks: sum(p.numel() for b in blocks for p in b.parameters()))


@contextmanager
def run_blocks(model: nn.Module, *, compiled: bool, checkpointed: bool) -> Iterator[None]:
    """Run the model's blocks compiled or checkpointed in forward passes that need gradients.

    Evaluation runs as usual. Module names and the state dict do not change.

    Raises:
        ZiaError: the model has no repeated blocks.
    """
    if not (compiled or checkpointed):
        yield
        return
    blocks = repeated_blocks(model)
    own = [block.__dict__.get("forward") for block in blocks]
    for block in blocks:
        run: Forward = block.forward
        other: Forward = torch.compile(run, dynamic=True) if compiled else run  # sizes are symbols
        other = _checkpointed(other) if checkpointed else other
        block.__dict__["forward"] = _with_gradient(other, run)
    try:
        # Masks, images, single samples, and blocks below, at and above the lowest trained one each
        # need a graph of their own; the number does not grow with the blocks.
        with torch._dynamo.config.patch(recompile_limit=32):  # torch.compile's own option is newer
            yield
    finally:
        for block, before in zip(blocks, own, strict=True):
            del block.__dict__["forward"]
            if before is not None:
                block.__dict__["forward"] = before


def _with_gradient(other: Forward, run: Forward) -> Forward:
    def forward(*args: Any, **kwargs: Any) -> Any:
        return (other if torch.is_grad_enabled() else run)(*args, **kwargs)

    return forward


def _checkpointed(run: Forward) -> Forward:
    def forward(*args: Any, **kwargs: Any) -> Any:
        # The backward pass runs after the caller's `with` blocks and, on a GPU, in another thread:
        # recompute in the context of the forward pass.
        seen = copy_context()

        def again(*args: Any, **kwargs: Any) -> Any:
            return seen.copy().run(run, *args, **kwargs)

        return checkpoint(again, *args, use_reentrant=False, **kwargs)

    return forward
