"""Attention masks without a question to the GPU.

For a batch without padding transformers makes no mask, so that the attention's fastest kernel can
be used, and it finds that out by asking the device whether the padding mask is all true. Who makes
a batch knows. Within `padding_known` the same masks are made from that knowledge.

And one mask fewer: where attention is causal and all padding is last, no token of the text can see
padding anyway. What is computed there then differs, but nothing is learned from it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from enum import Enum, auto
from typing import Any

from torch import Size, Tensor

# Flash attention cuts padding out, so it has to look where there is any; where none is, it has not.
KERNELS = ("sdpa", "eager", "flash_attention_2", "flash_attention_3")


class Padding(Enum):
    """Where the padding of a batch is."""

    NONE = auto()
    LAST = auto()  # behind the tokens of every sample
    ANYWHERE = auto()

    @classmethod
    def of(cls, mask: Tensor) -> Padding:
        """Of a padding mask on the CPU, [B, T]."""
        there = mask.numpy().astype(bool)
        if there.all():
            return cls.NONE
        return cls.LAST if (there[:, :-1] >= there[:, 1:]).all() else cls.ANYWHERE


def is_padding_mask(name: str, tensor: Tensor) -> bool:
    """Whether an entry of a batch says where its tokens are: [B, T], true or 1 there."""
    return name.endswith("attention_mask") and tensor.ndim == 2


@contextmanager
def padding_known(paddings: Mapping[Size, Padding]) -> Iterator[None]:
    """Within the block, masks are made unasked for padding masks of these shapes.

    Args:
        paddings: by the shape of a padding mask [B, T], where the padding is.
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
        # Of a mask that is not causal, or not causal alone, transformers says "no skip".
        causal = kwargs.get("allow_is_causal_skip", False)
        if known is Padding.NONE or (known is Padding.LAST and causal):
            return asking(*args, attention_mask=None, **kwargs)
        kwargs |= {"allow_is_causal_skip": False, "allow_is_bidirectional_skip": False}
        return asking(*args, attention_mask=attention_mask, **kwargs)

    masks[kernel] = knowing
    try:
        yield
    finally:
        del masks[kernel]  # what there is beneath may have been ours too
        if masks[kernel] is not asking:
            masks[kernel] = asking
