"""What conversions share: reading tensors, filling layers, and measuring the error."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from zia_core.attachment import attach, zero_init_layers
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import attention_layers
from zia_core.wrappers import bare_class, unwrapped

# Their keys and values are plain projections, so that every project makes the same of a prompt.
PLAIN = ("LlamaAttention", "MistralAttention")


@dataclass(frozen=True)
class Term:
    """One layer's prompts as the other project uses them, in float64.

    Attributes:
        key: [G, K, D].
        value: [G, K, D].
        strength: what multiplies the prompts' attention, [H] or [1].
    """

    key: Tensor
    value: Tensor
    strength: Tensor


def read_tensors(path: Path) -> dict[str, Tensor]:
    """Read a `.safetensors` file, or a `.pth` file without running code that is in it.

    Raises:
        ZiaError: missing or damaged, or it has more than named tensors.
    """
    try:
        if path.suffix == ".safetensors":
            return load_file(path)
        found: Any = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise ZiaError(f"There is no file {path}.") from error
    except pickle.UnpicklingError as error:  # torch advises to run what is in the file
        raise ZiaError(f"{path} is not a file of weights alone.") from error
    except (SafetensorError, RuntimeError, OSError, EOFError) as error:
        first = str(error).strip().split("\n")[0]
        raise ZiaError(f"{path} cannot be read as weights alone: {first}") from error
    found = found.get("model", found) if isinstance(found, Mapping) else found
    if not isinstance(found, Mapping) or not all(isinstance(x, Tensor) for x in found.values()):
        raise ZiaError(f"{path} does not hold named tensors; give the file with the adapter.")
    return dict(found)


def plain_layers(model: nn.Module, project: str) -> list[Any]:
    """The attention modules of a LLaMA or Mistral, lowest first.

    Raises:
        ZiaError: another model.
    """
    found: list[Any] = [layer.attention for layer in attention_layers(unwrapped(model))]
    if (name := bare_class(found[0]).__name__) not in PLAIN:
        raise ZiaError(f"{project}'s adapters convert for LLaMA and Mistral only, not for {name}.")
    return found


def weight_and_bias(layer: Any) -> tuple[Tensor, Tensor | None]:
    """A projection's weight and bias in float64."""
    bias = layer.bias
    return layer.weight.detach().double(), None if bias is None else bias.detach().double()


def projected(attention: Any, prompt: Tensor) -> tuple[Tensor, Tensor]:
    """Keys and values [G, K, D] of hidden prompts [K, C], in float64."""
    key, value = (
        nn.functional.linear(prompt.double(), *weight_and_bias(layer))
        .unflatten(-1, (-1, attention.head_dim))
        .transpose(0, 1)
        for layer in (attention.k_proj, attention.v_proj)
    )
    return key, value


def fill(
    model: nn.Module, config: ZeroInitConfig, prompts: Sequence[Tensor], gates: Sequence[Tensor]
) -> None:
    """Attach and set all prompts and gates, lowest layer first.

    Raises:
        ZiaError: their shapes are not those of the model.
    """
    attach(model, config)
    for layer, prompt, gate in zip(zero_init_layers(model), prompts, gates, strict=True):
        for name, ours, theirs in (("prompt", layer.prompt, prompt), ("gate", layer.gate, gate)):
            if ours.shape != theirs.shape:
                raise ZiaError(
                    f"A {name} has the shape {tuple(theirs.shape)} where this model needs "
                    f"{tuple(ours.shape)}; it was trained on a model of another size."
                )
            with torch.no_grad():
                ours.copy_(theirs)


def terms_of(model: nn.Module) -> list[Term]:
    """The prompts of an adapted LLaMA or Mistral, lowest layer first."""
    attentions = plain_layers(model, "zia_core")
    layers = zero_init_layers(model)
    terms = []
    for attention, layer in zip(attentions[-len(layers) :], layers, strict=True):
        if layer.config.prompt_source == "hidden":
            key, value = projected(attention, layer.prompt.detach())
        else:
            key, value = (
                part.detach().double().unflatten(-1, (-1, attention.head_dim)).transpose(0, 1)
                for part in layer.prompt
            )
        gate = layer.gate.detach().double()
        tanh = layer.config.gate_activation == "tanh"
        terms.append(Term(key, value, gate.tanh() if tanh else gate))
    return terms


def largest_error(ours: Sequence[Term], theirs: Sequence[Term]) -> float:
    """The largest difference between prompt terms of random queries, relative to the largest."""
    error = largest = 0.0
    for mine, other in zip(ours, theirs, strict=True):
        heads = max(len(mine.strength), len(other.strength), len(mine.key))
        generator = torch.Generator().manual_seed(0)
        q = torch.randn(heads, 64, mine.key.shape[-1], generator=generator, dtype=torch.float64)
        terms = [_attended(q, each) for each in (mine, other)]
        error = max(error, float((terms[0] - terms[1]).abs().max()))
        largest = max(largest, float(terms[1].abs().max()))
    return error / largest if largest else error


def _attended(q_HTD: Tensor, term: Term) -> Tensor:
    groups = len(q_HTD) // len(term.key)
    key, value = (x.cpu().repeat_interleave(groups, dim=0) for x in (term.key, term.value))
    weights = (q_HTD @ key.transpose(-1, -2) * q_HTD.shape[-1] ** -0.5).softmax(-1)
    return term.strength.cpu()[:, None, None] * (weights @ value)
