"""Make attention masks without waiting for the GPU.

For a batch without padding, transformers makes no mask, so that the fastest attention kernel can
be used; but it asks the device whether the padding mask is all true. Whoever made the batch knows.
`padding_known` makes the same masks from that knowledge.

It also saves a mask: if attention is causal and all padding comes last, no token sees padding
anyway. Outputs at the padding then differ, but nothing is learned from them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from typing import Any

from torch import Size, Tensor

# Flash attention unpads, so it still looks at the device, unless there is no padding.
KERNELS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


class Padding(Enum):
    """Where the padding of a batch is."""

    NONE = auto()
    LAST = auto()  # after the tokens of every sample
    ANYWHERE = auto()

    @classmethod
    def of(cls, mask: Tensor) -> Padding:
        """The kind of padding of a mask on the CPU, [B, T]."""
        there = mask.numpy().astype(bool)
        if there.all():
            return cls.NONE
        return cls.LAST if (there[:, :-1] >= there[:, 1:]).all() else cls.ANYWHERE


def is_padding_mask(name: str, tensor: Tensor) -> bool:
    """Whether an entry of a batch is a padding mask: [B, T], true or 1 at tokens."""
    return name.endswith("attention_mask") and tensor.ndim == 2


@contextmanager
def padding_known(paddings: Mapping[Size, Padding]) -> Iterator[None]:
    """Make attention masks from known paddings within the block.

    Args:
        paddings: where the padding is, by the shape of the padding mask [B, T].
    """
    if not paddings:
        yield
        return
    with ExitStack() as stack:
        for kernel in KERNELS:
            stack.enter_context(_replaced(kernel, paddings))
        yield


@contextmanager
def _replaced(kernel: str, paddings: Mapping[Size, Padding]) -> Iterator[None]:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS

    masks: Any = ALL_MASK_ATTENTION_FUNCTIONS
    asking: Callable[..., Tensor | None] = masks[kernel]

    def knowing(*args: Any, attention_mask: Tensor | None = None, **kwargs: Any) -> Tensor | None:
        known = None if attention_mask is None else paddings.get(attention_mask.shape)
        if known is None:
            return asking(*args, attention_mask=attention_mask, **kwargs)
        # transformers allows no skip for a mask that is not simply causal.
        causal = kwargs.get("allow_is_causal_skip", False)
        if known is Padding.NONE or (known is Padding.LAST and causal):
            return asking(*args, attention_mask=None, **kwargs)
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return asking(*args, attention_mask=attention_mask, **kwargs)

    masks[kernel] = knowing
    try:
        yield
    finally:
        del masks[kernel]  # the entry underneath may be ours too, from an outer block
        if masks[kernel] is not asking:
            masks[kernel] = asking
