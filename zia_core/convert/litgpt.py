"""LitGPT's adapter v1, as its version 0.5.13 computes it."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.config import ZeroInitConfig
from zia_core.convert.terms import (
    Term,
    fill,
    largest_error,
    plain_layers,
    read_tensors,
    terms_of,
    weight_and_bias,
)
from zia_core.errors import ZiaError
from zia_core.rollback import all_or_nothing

_NAME = re.compile(r"transformer\.h\.(\d+)\.attn\.(adapter_wte\.weight|gating_factor)")


@all_or_nothing
def from_litgpt(model: nn.Module, path: str | os.PathLike[str]) -> float:
    """Attach a LitGPT adapter v1 to its LLaMA or Mistral, in place, as free keys and values.

    LitGPT 0.5.13 slices the projected prompts as [queries, key, value] for each group, but its
    weights are in the order [all queries, all keys, all values]. So what it takes for keys and
    values is not the projection of any prompt, and only `prompt_source="key_value"` has the same
    function. Training can go on, but of the keys and values themselves.

    Args:
        model: the same model in transformers' format, bare.
        path: `lit_model.pth.adapter`.

    Returns:
        The largest relative error of a layer's prompt term.

    Raises:
        ZiaError: not such a file, or for a model of another size.
    """
    source, tensors = Path(path), read_tensors(Path(path))
    attentions = plain_layers(model, "LitGPT")
    found = {(int(m[1]), m[2]): t for n, t in tensors.items() if (m := _NAME.fullmatch(n))}
    layers = sorted({layer for layer, _ in found})
    adapted = list(range(len(attentions) - len(layers), len(attentions)))
    if not found or layers != adapted or len(found) != 2 * len(layers):
        raise ZiaError(
            f"{source} does not hold a LitGPT adapter of the topmost of {len(attentions)} layers."
        )
    theirs, prompts, gates = [], [], []
    for layer in adapted:
        key, value = _keys_values(attentions[layer], found[layer, "adapter_wte.weight"])
        prompts.append(torch.stack([x.transpose(0, 1).flatten(1) for x in (key, value)]))
        gates.append(found[layer, "gating_factor"].flatten())
        theirs.append(Term(key, value, gates[-1].double()))
    config = ZeroInitConfig(
        prompts[0].shape[1], len(adapted), prompt_source="key_value", gate_activation="identity"
    )
    fill(model, config, prompts, gates)
    return largest_error(terms_of(model), theirs)


def _keys_values(attention: Any, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """What LitGPT takes for keys and values: [G, K, D], in float64."""
    parts = [
        nn.functional.linear(prompt.double(), *weight_and_bias(layer))
        for layer in (attention.q_proj, attention.k_proj, attention.v_proj)
    ]
    groups = parts[1].shape[-1] // attention.head_dim
    per_group = torch.cat(parts, dim=-1).unflatten(-1, (groups, -1, attention.head_dim))
    return per_group[:, :, -2].transpose(0, 1), per_group[:, :, -1].transpose(0, 1)
