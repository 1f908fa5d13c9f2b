"""PEFT's AdaptionPrompt: the same function with one scalar gate per layer and no tanh."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

from safetensors.torch import save
from torch import Tensor, nn

from zia_core.attachment import zero_init_layers
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
from zia_core.files import write_atomic, write_errors
from zia_core.rollback import all_or_nothing
from zia_core.strict_json import loads
from zia_core.visual.attachment import visual_projection

CONFIG, WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
_NAME = re.compile(r"base_model\.model\.(.*layers\.(\d+)\.self_attn)\.adaption_(prompt|gate)")


@all_or_nothing
def from_peft(model: nn.Module, folder: str | os.PathLike[str]) -> float:
    """Attach an AdaptionPrompt that PEFT saved to its LLaMA or Mistral, in place.

    Args:
        model: the model it was trained on, bare.
        folder: what PEFT's `save_pretrained` wrote.

    Returns:
        The largest relative error of a layer's prompt term.

    Raises:
        ZiaError: another method or model, or one on which PEFT computes another function.
    """
    source = Path(folder)
    config = _config(source / CONFIG)
    attentions = _expressible(model)
    tensors = read_tensors(source / WEIGHTS)
    found: dict[tuple[int, str], Tensor] = {}
    for name, tensor in tensors.items():
        if (match := _NAME.fullmatch(name)) is None:
            raise ZiaError(f"{source / WEIGHTS} has {name}, which an AdaptionPrompt has not.")
        found[int(match[2]), match[3]] = tensor
    count = config["adapter_layers"]
    adapted = range(len(attentions) - count, len(attentions))
    if found.keys() != {(layer, part) for layer in adapted for part in ("prompt", "gate")}:
        raise ZiaError(
            f"{source / WEIGHTS} does not hold prompts and gates of the topmost {count} of this "
            f"model's {len(attentions)} layers; give the model that it was trained on."
        )
    prompts = [found[layer, "prompt"][0] for layer in adapted]
    gates = [found[layer, "gate"] for layer in adapted]
    choices = ZeroInitConfig(
        config["adapter_len"], count, gate_per="layer", gate_activation="identity"
    )
    fill(model, choices, prompts, gates)
    theirs = [
        Term(*projected(attentions[layer], prompt), gate.double())
        for layer, prompt, gate in zip(adapted, prompts, gates, strict=True)
    ]
    return largest_error(terms_of(model), theirs)


def to_peft(model: nn.Module, folder: str | os.PathLike[str]) -> float:
    """Write an adapted model's prompts and gates as PEFT's AdaptionPrompt.

    Its gates have no tanh, so tanh(g) is written where the model has one.

    Args:
        model: an adapted LLaMA or Mistral.
        folder: `PeftModel.from_pretrained(bare_model, folder)` reads it.

    Returns:
        The largest relative error of a layer's prompt term.

    Raises:
        ZiaError: AdaptionPrompt cannot express the adapter; nothing is written.
    """
    layers = zero_init_layers(model)
    if not layers:
        raise ZiaError(f"{type(model).__name__} has no zero-init attention; call attach() first.")
    attentions, config = _expressible(model), layers[0].config
    if config.prompt_source != "hidden" or config.softmax != "separate":
        raise ZiaError(
            "PEFT's AdaptionPrompt has hidden prompts and a softmax of their own; it cannot "
            f"express prompt_source={config.prompt_source!r} with softmax={config.softmax!r}."
        )
    if visual_projection(model) is not None:
        raise ZiaError("PEFT's AdaptionPrompt has no images; it cannot express this adapter.")
    ours = terms_of(model)
    if any((term.strength != term.strength[0]).any() for term in ours):
        raise ZiaError(
            "PEFT's AdaptionPrompt has one gate for all heads of a layer, and this adapter's heads "
            "have gates of their own; train with gate_per='layer' to share it with PEFT."
        )
    names = [name for name, module in model.named_modules() if module in attentions[-len(layers) :]]
    tensors, theirs = {}, []
    for name, attention, layer, term in zip(
        names, attentions[-len(layers) :], layers, ours, strict=True
    ):
        prompt, gate = layer.prompt.detach().float().cpu(), term.strength[:1].float().cpu()
        tensors[f"base_model.model.{name}.adaption_prompt"] = prompt[None].contiguous()
        tensors[f"base_model.model.{name}.adaption_gate"] = gate
        theirs.append(Term(*projected(attention, prompt.to(term.key.device)), gate.double()))
    about = {
        "peft_type": "ADAPTION_PROMPT",
        "task_type": "CAUSAL_LM",
        "inference_mode": True,
        "base_model_name_or_path": getattr(model, "name_or_path", None) or None,
        "target_modules": "self_attn",
        "adapter_len": config.prompt_length,
        "adapter_layers": config.num_layers,
    }
    target = Path(folder)
    with write_errors(target / WEIGHTS):
        target.mkdir(parents=True, exist_ok=True)
    write_atomic(target / WEIGHTS, save(tensors, {"format": "pt"}))
    write_atomic(target / CONFIG, (json.dumps(about, indent=2) + "\n").encode())
    return largest_error(ours, theirs)


def _config(path: Path) -> dict[str, Any]:
    try:
        about = loads(path.read_text("utf-8"))
        kind = about["peft_type"]
        sizes = about.get("adapter_len"), about.get("adapter_layers")
    except FileNotFoundError as error:
        raise ZiaError(f"There is no {path}; give the folder that PEFT wrote.") from error
    except (OSError, ValueError, LookupError, TypeError, AttributeError) as error:
        raise ZiaError(f"{path} is not a PEFT config ({error}).") from error
    if kind != "ADAPTION_PROMPT":
        raise ZiaError(f"{path} is of {kind}; only ADAPTION_PROMPT is zero-init attention.")
    if not all(isinstance(size, int) and size > 0 for size in sizes):
        raise ZiaError(f"{path} has no adapter_len and adapter_layers.")
    return dict(about)


def _expressible(model: nn.Module) -> list[Any]:
    """The layers of a model for which PEFT computes the same function."""
    attentions = plain_layers(model, "PEFT")
    for attention in attentions:
        if attention.o_proj.bias is not None:
            raise ZiaError(
                "PEFT passes its prompt term through o_proj with the bias, and so adds the bias "
                "twice, also at zero gates; zero-init attention cannot express that."
            )
        if attention.q_proj.out_features != attention.q_proj.in_features:
            raise ZiaError(
                "PEFT's AdaptionPrompt cannot run a model whose head_dim is not "
                "hidden_size / num_attention_heads."
            )
    return attentions
