"""Choose how the prompt term is computed: by plain products or by one Triton kernel.

Both compute the same equation. The kernel covers the common cases of training and generation on
NVIDIA GPUs from Ampere on; everything else takes the plain form.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Literal

import torch
from torch import Tensor

from zia_core.errors import ZiaError

__all__ = ["prompt_form"]

Form = Literal["automatic", "plain", "fused"]
_chosen: Form = "automatic"

DTYPES = (torch.float32, torch.bfloat16, torch.float16)
LONGEST, WIDEST = 128, 256  # the largest K and D that the kernel supports


@contextmanager
def prompt_form(form: Form) -> Iterator[None]:
    """Force the form of the prompt term within the block, for all models and threads.

    With gradient checkpointing, run the backward pass inside the block too.

    Args:
        form: "plain": matrix products. "fused": the kernel, which needs an NVIDIA GPU and no
            float64, attention dropout, observer, more than 128 prompts or heads wider than 256; a
            forward pass that it does not support raises a `ZiaError`. "automatic": the kernel where
            it can be used, except for single tokens in generation.
    """
    global _chosen
    before, _chosen = _chosen, form
    try:
        yield
    finally:
        _chosen = before


def is_automatic() -> bool:
    """Whether no form is forced."""
    return _chosen == "automatic"


def is_fused(q: Tensor, prompts: int, head_dim: int, dropout: float, observed: bool) -> bool:
    """Whether the kernel computes a layer's term.

    Args:
        q: the queries, or the hidden states they are made of: only device and dtype matter.
        prompts: K.
        head_dim: D.
        dropout: of the attention weights; the kernel supports none.
        observed: whether an observer needs the term itself, which the kernel does not write.

    Raises:
        ZiaError: the fused form is forced and does not support this.
    """
    # torch.compile for a GPU needs Triton anyway, and cannot trace `_is_usable`.
    fits = q.is_cuda and (torch.compiler.is_compiling() or _is_usable())
    if _chosen == "plain" or (_chosen == "automatic" and not fits):
        return False
    sizes_fit = prompts <= LONGEST and head_dim <= WIDEST
    if q.dtype in DTYPES and sizes_fit and dropout == 0.0 and not observed:
        return True
    if _chosen == "automatic":
        return False
    reasons = {
        f"{q.dtype}": q.dtype not in DTYPES,
        f"{prompts} prompts (at most {LONGEST})": prompts > LONGEST,
        f"a head width of {head_dim} (at most {WIDEST})": head_dim > WIDEST,
        f"attention dropout ({dropout})": dropout > 0.0,
        "an observed prompt term": observed,
    }
    first = next(reason for reason, holds in reasons.items() if holds)
    raise ZiaError(f"The fused prompt term does not support {first}; leave the form automatic.")


@cache
def _is_usable() -> bool:
    """Whether Triton is installed and every visible GPU is Ampere or newer (bfloat16)."""
    if torch.version.cuda is None or find_spec("triton") is None:
        return False
    return all(
        torch.cuda.get_device_capability(number) >= (8, 0)
        for number in range(torch.cuda.device_count())
    )
