"""The equation of zero-init attention (LLaMA-Adapter, arXiv 2303.16199, eqs 2-8).

    out = softmax(q K^T / sqrt(D)) V  +  a(g) * softmax(q K_p^T / sqrt(D)) V_p

The first term is the frozen layer's own attention, by whatever kernel the backbone uses. In the
second, K_p and V_p come from K learned prompts, and g is one gate per head that starts at zero. The
two softmaxes have separate normalisers and the gate may be negative, so no bias on a single softmax
expresses this.

Shape suffixes: B batch, T queries, S keys of the text, K prompts, H query heads, G key-value heads
(G < H under grouped-query attention), D head width, C model width.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PromptKV:
    """Keys and gated values of one layer's prompts for one forward pass.

    Attributes:
        key: [H, K, D], or [B, H, K, D] if a condition changes the keys of each sample. With the
            joint softmax [G, K, D], since they then pass through the backbone's own attention.
        value: the same shape, multiplied by a(g) unless `strength` is set.
        shift: what a condition adds to every prompt's gated value, [B, H, 1, D], or None.
        unconditioned: the unconditioned prompts, for samples without a condition, or None.
        conditioned: bool [B, 1, 1, 1], which samples have a condition; None if `unconditioned` is.
        strength: a(g), [H] or [1], for the fused kernel, which takes keys and values per key-value
            head: [G, K, D] or [B, G, K, D].
        padding: bool [B, 1, 1, K], which keys only fill up a row with fewer prompts, or None.
    """

    key: Tensor
    value: Tensor
    shift: Tensor | None = None
    unconditioned: PromptKV | None = None
    conditioned: Tensor | None = None
    strength: Tensor | None = None
    padding: Tensor | None = None


def prompt_scores(q_BHTD: Tensor, key_HKD: Tensor, scale: float, softcap: float | None) -> Tensor:
    """q K_p^T * scale in at least float32, soft-capped if the backbone is: [B, H, T, K]."""
    scores_BHTK = q_BHTD @ key_HKD.transpose(-1, -2)
    if scores_BHTK.itemsize < 4:
        scores_BHTK = scores_BHTK.float()
    scores_BHTK = scores_BHTK.mul_(scale)  # in place: nothing else needs the product
    if softcap is not None:
        scores_BHTK = torch.tanh(scores_BHTK / softcap) * softcap
    return scores_BHTK


def prompt_term(
    q_BHTD: Tensor,
    prompts: PromptKV,
    scale: float,
    softcap: float | None = None,
    dropout: float = 0.0,
) -> Tensor:
    """a(g) * softmax(q K_p^T * scale) V_p, unmasked: every query sees all K prompts.

    A plain product, since K is about ten: it saves [B, H, T, K] for the backward pass, where a
    second call of fused attention would save another output, [B, H, T, D].

    Args:
        q_BHTD: queries as the text path sees them (after rotary embedding and query norm).
        prompts: keys and gated values.
        scale: the layer's own score scale, 1/sqrt(D) for LLaMA (the paper prints 1/sqrt(C)).
        softcap: the bound c of soft-capped scores c*tanh(s/c), or None.
        dropout: the layer's attention dropout, 0 outside training.

    Returns:
        [B, H, T, D] in the dtype of the queries.
    """
    scores_BHTK = prompt_scores(q_BHTD, prompts.key, scale, softcap)
    if prompts.padding is not None:
        scores_BHTK = scores_BHTK.masked_fill(prompts.padding, float("-inf"))
    weights_BHTK = scores_BHTK.softmax(dim=-1)
    if dropout > 0.0:
        weights_BHTK = nn.functional.dropout(weights_BHTK, dropout)
    if weights_BHTK.dtype != q_BHTD.dtype:
        weights_BHTK = weights_BHTK.to(q_BHTD.dtype)
    term_BHTD = weights_BHTK @ prompts.value
    if prompts.shift is not None:
        # Each row of weights sums to one (dropout aside), so a shift of every value is a shift of
        # the output.
        total = weights_BHTK.sum(-1, keepdim=True) if dropout > 0.0 else 1.0
        term_BHTD = term_BHTD + total * prompts.shift
    if prompts.unconditioned is not None and prompts.conditioned is not None:
        # Per-sample keys round differently from shared ones. Unconditioned samples take the shared
        # ones, so that their output is bitwise that of a batch without a condition.
        plain_BHTD = prompt_term(q_BHTD, prompts.unconditioned, scale, softcap, dropout)
        term_BHTD = torch.where(prompts.conditioned, term_BHTD, plain_BHTD)
    return term_BHTD


def add_to_one_query(text_BTHD: Tensor, q_BHTD: Tensor, prompts: PromptKV, scale: float) -> Tensor:
    """Text plus prompt term for one query per sample (T = 1), [B, 1, H, D], in three operations.

    The plain form takes seven, and in generation on a GPU launching dominates. Scores are in the
    queries' dtype, so rounding differs.

    Args:
        text_BTHD: output of the layer's own attention, in the queries' dtype.
        q_BHTD: queries, T = 1.
        prompts: per-sample keys and gated values, [B, H, K, D], without a shift.
        scale: score scale.
    """
    q, key, value = (
        x.flatten(0, 1) for x in (q_BHTD, prompts.key.transpose(-1, -2), prompts.value)
    )
    scores = torch.baddbmm(q.new_empty(1, 1, 1), q, key, beta=0, alpha=scale)
    both = torch.baddbmm(text_BTHD.reshape(q.shape), scores.softmax(-1), value)
    return both.view(text_BTHD.shape)


def joint_mix(
    text_BHTD: Tensor,
    q_BHTD: Tensor,
    k_BHSD: Tensor,
    prompts: PromptKV,
    scale: float,
) -> Tensor:
    """One softmax over prompts and text, from the finished text attention (random-init ablation).

    Equals s * text + (1 - s) * prompts with s = Z_text / (Z_text + Z_prompt), where the Z are the
    two normalisers. It is for unmasked attention whose keys cannot be extended from outside (timm),
    and computes the text scores a second time.
    """
    wide = torch.promote_types(q_BHTD.dtype, torch.float32)
    scores_BHTK = prompt_scores(q_BHTD, prompts.key, scale, None)
    text_log_z = ((q_BHTD @ k_BHSD.transpose(-1, -2)).to(wide) * scale).logsumexp(-1, keepdim=True)
    share = torch.sigmoid(text_log_z - scores_BHTK.logsumexp(-1, keepdim=True))
    prompt_BHTD = scores_BHTK.softmax(-1).to(q_BHTD.dtype) @ prompts.value
    return (share * text_BHTD + (1.0 - share) * prompt_BHTD).to(text_BHTD.dtype)


def joint_mask(
    attention_mask: Tensor | None, q_BHTD: Tensor, k_BHSD: Tensor, prompts: int, causal: bool
) -> Tensor | None:
    """The text's mask with K always-visible columns in front, for keys [prompts; text].

    Args:
        attention_mask: [B or 1, 1, T, >= S] boolean (True = attend) or additive, or None.
        q_BHTD: queries, for T.
        k_BHSD: the text's keys, for S.
        prompts: K.
        causal: whether None means causal when T > 1, aligned upper-left as in torch's sdpa.
    """
    queries, keys = q_BHTD.shape[-2], k_BHSD.shape[-2]
    if attention_mask is None:
        if not causal or queries == 1:
            return None
        attention_mask = torch.ones(queries, keys, dtype=torch.bool, device=q_BHTD.device).tril()
        attention_mask = attention_mask[None, None]
    visible = 1.0 if attention_mask.dtype == torch.bool else 0.0
    return nn.functional.pad(attention_mask[..., :keys], (prompts, 0), value=visible)
