"""Combine the prompts of several adapters for a batch in which every row has its own."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import pad

from zia_core.attention import PromptKV


def by_row(parts: Sequence[tuple[PromptKV | None, int]], order: Tensor) -> PromptKV:
    """The prompts of each row of a batch, [B, H, K, D], K being that of the longest adapter.

    Args:
        parts: each adapter's prompts in the plain form, with the number of its rows; None for rows
            without an adapter, whose prompts have values of zero. One of them is not None.
        order: int64 [B], where each row is in the order of the parts.
    """
    rows = [(None if part is None else _each(part, count), count) for part, count in parts]
    like = next(pair[0] for pair, _ in rows if pair is not None)
    longest = max(pair[0].shape[-2] for pair, _ in rows if pair is not None)
    keys, values, lengths = [], [], []
    for pair, count in rows:
        # Prompts whose values are zero add exactly zero.
        nothing = like.new_zeros(count, like.shape[1], longest, like.shape[3])
        key, value = (nothing, nothing) if pair is None else pair
        filling = (0, 0, 0, longest - key.shape[-2])
        keys.append(pad(key, filling))
        values.append(pad(value, filling))
        lengths += [key.shape[-2]] * count
    key, value = (torch.cat(each)[order] for each in (keys, values))
    if set(lengths) == {longest}:
        return PromptKV(key, value)
    place = torch.arange(longest, device=key.device)
    padding = place >= torch.tensor(lengths, device=key.device)[order, None]
    return PromptKV(key, value, padding=padding[:, None, None, :])


def _each(prompts: PromptKV, rows: int) -> tuple[Tensor, Tensor]:
    """One adapter's keys and gated values for each of its rows, [rows, H, K, D]."""
    key, value = prompts.key, prompts.value
    if prompts.shift is not None:
        value = value + prompts.shift
    if prompts.unconditioned is not None and prompts.conditioned is not None:
        plain = prompts.unconditioned
        key = torch.where(prompts.conditioned, key, plain.key)
        value = torch.where(prompts.conditioned, value, plain.value)
    return key.expand(rows, -1, -1, -1), value.expand(rows, -1, -1, -1)
