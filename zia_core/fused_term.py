"""The prompt term in one kernel; works with autograd, gradient checkpointing and torch.compile.

    out = text + a(g) * softmax(q K_p^T * scale) V_p

The backward pass saves only queries, prompts and gates, which exist anyway. Importing this module
imports Triton; `zia_core.kernel_choice` decides when it is used.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any, NamedTuple

import torch
import triton
from torch import Tensor
from torch.autograd.function import once_differentiable

from zia_core import triton_kernels

PARTS = 512  # programs of the backward pass, about four per multiprocessor of a large GPU
_BLOCK, _ROWS = 128, 16  # of `combine`


class _Blocks(NamedTuple):
    """A program's tile sizes and compiler options."""

    BLOCK_T: int
    BLOCK_K: int
    BLOCK_D: int
    NUM_D: int
    num_warps: int
    num_stages: int


def add_prompt_term(
    text_BTHD: Tensor,
    q_BHTD: Tensor,
    key_GKD: Tensor,
    value_GKD: Tensor,
    strength_H: Tensor,
    scale: float,
    softcap: float | None = None,
) -> Tensor:
    """The text's output with the prompt term added, [B, T, H, D].

    Args:
        text_BTHD: output of the layer's own attention.
        q_BHTD: queries of any strides, in float32, bfloat16 or float16.
        key_GKD: prompt keys of G key-value heads, each shared by H/G query heads, or per-sample
            keys [B, G, K, D]. K is at most 128.
        value_GKD: prompt values before gating; [B, G, K, D] if per sample.
        strength_H: a(g), [H] or [1].
        scale: score scale.
        softcap: the bound c of soft-capped scores c*tanh(s/c), or None.
    """
    key, value = key_GKD.to(q_BHTD.dtype), value_GKD.to(q_BHTD.dtype)
    return _AddTerm.apply(text_BTHD, q_BHTD, key, value, strength_H, scale, softcap)


class _AddTerm(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        text: Tensor,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        strength: Tensor,
        scale: float,
        softcap: float | None,
    ) -> Tensor:
        ctx.save_for_backward(query, key, value, strength)
        ctx.scale, ctx.softcap, ctx.text_dtype = scale, softcap, text.dtype
        # torch.compile needs an operator for its graph; a bare call is faster.
        call = _forward_op if torch.compiler.is_compiling() else _forward
        return call(text, query, key, value, strength, scale, softcap)

    @staticmethod
    @once_differentiable  # refuse second derivatives, which would silently be wrong
    def backward(ctx: Any, grad: Tensor) -> Any:
        query, key, value, strength = ctx.saved_tensors
        call = _backward_op if torch.compiler.is_compiling() else _backward
        needed = ctx.needs_input_grad[1]
        d_query, d_key, d_value, d_strength = call(
            grad, query, key, value, strength, ctx.scale, ctx.softcap, needed
        )
        d_text = grad.to(ctx.text_dtype)
        return d_text, d_query if needed else None, d_key, d_value, d_strength, None, None


def _forward(
    text: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    scale: float,
    softcap: float | None,
) -> Tensor:
    (B, H, T, D), K = query.shape, key.shape[-2]
    text, query, key, value = map(_rows, (text, query, key, value))
    out = text.new_empty((B, T, H, D), dtype=torch.promote_types(text.dtype, query.dtype))
    blocks = _blocks(query.dtype, T, K, D)
    with _device_of(query):
        triton_kernels.forward[(B * H, triton.cdiv(T, blocks.BLOCK_T))](
            out,
            text,
            *text.stride()[:3],
            *_inputs(query, key, value, strength, scale, softcap),
            **_sizes(query, key),
            CAPPED=softcap is not None,
            **blocks._asdict(),
        )
    return out


def _backward(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    scale: float,
    softcap: float | None,
    query_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Gradients of query (empty unless `query_grad`), key, value and strength."""
    (B, H, T, D), (G, K, _) = query.shape, key.shape[-3:]
    grad, query, rows_key, rows_value = map(_rows, (grad, query, key, value))
    blocks = _blocks(query.dtype, T, K, D, backward=True)
    most = triton.cdiv(PARTS, B * H * blocks.NUM_D)
    stretch = triton.cdiv(triton.cdiv(T, blocks.BLOCK_T), most) * blocks.BLOCK_T
    stretches = triton.cdiv(T, stretch)
    d_query = torch.empty_like(query) if query_grad else query.new_empty((0, 0, 0, 0))
    key_part, value_part = query.new_empty((2, B, stretches, H, K, D), dtype=torch.float32)
    own = B if max(key.ndim, value.ndim) == 4 else 1  # sets of prompts, hence of gradients
    d_key, d_value = (
        one.new_empty((own, G, K, D), dtype=one.dtype if len(one) == own or own == 1 else None)
        for one in (key, value)
    )
    pieces = triton.cdiv(K * D, _BLOCK)
    d_strength = strength.new_empty((own * pieces, H), dtype=torch.float32)
    with _device_of(query):
        triton_kernels.backward[(B * H, stretches, blocks.NUM_D)](
            d_query,
            key_part,
            value_part,
            grad,
            stretch,
            *grad.stride()[:3],
            *d_query.stride()[:3],
            *_inputs(query, rows_key, rows_value, strength, scale, softcap),
            **_sizes(query, key),
            CAPPED=softcap is not None,
            QUERY=query_grad,
            **blocks._asdict(),
        )
        triton_kernels.combine[(pieces, G, own)](
            d_key,
            d_value,
            d_strength,
            key_part,
            value_part,
            rows_value,
            strength,
            B * stretches // own,
            *_strides(rows_value),
            _step(strength),
            **_sizes(query, key),
            BLOCK=_BLOCK,
            ROWS=_ROWS,
        )
    d_key, d_value = (
        found.view(one.shape) if found.numel() == one.numel() else found.sum(0).to(one.dtype)
        for found, one in ((d_key, key), (d_value, value))
    )
    d_strength = d_strength.sum(0) if len(strength) == H else d_strength.sum()[None]
    return d_query, d_key, d_value, d_strength.to(strength.dtype)


def _blocks(dtype: torch.dtype, T: int, K: int, D: int, *, backward: bool = False) -> _Blocks:
    """Tiles that fit Hopper's registers and shared memory, as counted by the compiler."""
    block_k = max(16, triton.next_power_of_2(K))
    wide = dtype == torch.float32
    block_d = min(max(16, triton.next_power_of_2(D)), (2048 if wide else 8192) // block_k)
    # Measured on an H100 with ten prompts: tiles of 64 take two thirds of the time of 32.
    small = not wide and (not backward or (block_k == 16 and block_d <= 128))
    block_t = 16 if T <= 16 else 64 if small else 32
    num_d = triton.cdiv(D, block_d)
    # With several pieces, each prefetched load would take shared memory.
    return _Blocks(
        block_t, block_k, block_d, num_d, 8 if block_k > 32 else 4, 2 if num_d == 1 else 1
    )


def _inputs(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    scale: float,
    softcap: float | None,
) -> tuple[Any, ...]:
    """The inputs that forward and backward kernel take, in their order: tensors, T, strides."""
    strides = *query.stride()[:3], *_strides(key), *_strides(value), _step(strength)
    return query, key, value, strength, query.shape[2], *strides, scale, softcap or 0.0


def _sizes(query: Tensor, key: Tensor) -> dict[str, int]:
    """The sizes for which all kernels are compiled."""
    (H, _, D), (G, K, _) = query.shape[1:], key.shape[-3:]
    return {"heads": H, "group": H // G, "K": K, "D": D}


def _rows(x: Tensor) -> Tensor:
    """The tensor with a contiguous last dimension, as the kernels read it."""
    return x if x.stride(-1) == 1 else x.contiguous()


def _strides(x: Tensor) -> tuple[int, int, int]:
    """Strides of samples (0 if they share prompts), heads and prompts."""
    sample = 0 if x.ndim == 3 else x.stride(0)
    return sample, x.stride(-3), x.stride(-2)


def _step(strength: Tensor) -> int:
    return strength.stride(0) if len(strength) > 1 else 0


def _device_of(x: Tensor) -> AbstractContextManager[object]:
    """Make the tensor's device current: Triton launches on the current one."""
    return torch.cuda.device(x.device) if x.is_cuda else nullcontext()


@torch.library.custom_op("zia_core::add_prompt_term", mutates_args=())
def _forward_op(
    text: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    scale: float,
    softcap: float | None,
) -> Tensor:
    return _forward(text, query, key, value, strength, scale, softcap)


@_forward_op.register_fake
def _(text: Tensor, query: Tensor, *rest: object) -> Tensor:
    B, H, T, D = query.shape
    return text.new_empty((B, T, H, D), dtype=torch.promote_types(text.dtype, query.dtype))


@torch.library.custom_op("zia_core::add_prompt_term_backward", mutates_args=())
def _backward_op(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    scale: float,
    softcap: float | None,
    query_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return _backward(grad, query, key, value, strength, scale, softcap, query_grad)


@_backward_op.register_fake
def _(
    grad: Tensor,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    strength: Tensor,
    scale: float,
    softcap: float | None,
    query_grad: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    d_query = torch.empty_like(_rows(query)) if query_grad else query.new_empty((0, 0, 0, 0))
    d_key, d_value, d_strength = (one.new_empty(one.shape) for one in (key, value, strength))
    return d_query, d_key, d_value, d_strength
