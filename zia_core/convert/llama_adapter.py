"""The checkpoints of the paper's own code (LLaMA-Adapter V1)."""

from __future__ import annotations

import os
import re
from pathlib import Path

from torch import nn

from zia_core.config import ZeroInitConfig
from zia_core.convert.terms import (
    Term,
    fill,
    largest_error,
    plain_layers,
    projected,
    read_tensors,
    terms_of,
)
from zia_core.errors import ZiaError
from zia_core.rollback import all_or_nothing

QUERY = "adapter_query.weight"
GATE = re.compile(r"layers\.(\d+)\.attention\.gate")


@all_or_nothing
def from_llama_adapter(
    model: nn.Module, path: str | os.PathLike[str], *, prompt_length: int, tanh: bool
) -> float:
    """Attach the adapter of an official LLaMA-Adapter V1 checkpoint to its LLaMA, in place.

    Args:
        model: the LLaMA it was trained on, bare. Prompts pass no rotary embedding, so weights in
            transformers' order take them as they are.
        path: a `.pth` file with `adapter_query.weight`, the prompts of all layers below each other,
            and `layers.N.attention.gate`, [1, H, 1, 1].
        prompt_length: K, which the file does not have; 10 in the released one.
        tanh: whether the gates were trained under a tanh, which the file does not say either. The
            official training code has it; its inference code, in the root folder, leaves it out.

    Returns:
        The largest relative error of a layer's prompt term.

    Raises:
        ZiaError: not such a file, or for a model of another size.
    """
    source, tensors = Path(path), read_tensors(Path(path))
    attentions = plain_layers(model, "LLaMA-Adapter")
    if QUERY not in tensors:
        raise ZiaError(f"{source} is not a LLaMA-Adapter V1 checkpoint: it has no {QUERY}.")
    rows = tensors[QUERY]
    layers, rest = divmod(len(rows), prompt_length)
    if rest or not 0 < layers <= len(attentions):
        raise ZiaError(
            f"{source} has {len(rows)} prompts, which are not {prompt_length} for each of at most "
            f"{len(attentions)} layers; give its own prompt_length."
        )
    prompts = list(rows.unflatten(0, (layers, prompt_length)))
    gates = {int(m[1]): tensors[n].flatten() for n in tensors if (m := GATE.fullmatch(n))}
    adapted = range(len(attentions) - layers, len(attentions))
    if missing := [str(layer) for layer in adapted if layer not in gates]:
        raise ZiaError(
            f"{source} has no gate for layer {', '.join(missing)}, which {layers} layers of "
            f"{prompt_length} prompts need; give its own prompt_length, and the same model."
        )
    config = ZeroInitConfig(prompt_length, layers, gate_activation="tanh" if tanh else "identity")
    fill(model, config, prompts, [gates[layer] for layer in adapted])
    theirs = []
    for layer, prompt in zip(adapted, prompts, strict=True):
        gate = gates[layer].double()
        theirs.append(Term(*projected(attentions[layer], prompt), gate.tanh() if tanh else gate))
    return largest_error(terms_of(model), theirs)
