"""Adapter files: the trained tensors, their config and whose backbone they belong to.

A folder with `adapter.safetensors` (prompts and gates, nothing else) and `adapter_config.json`.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor, nn

from zia_core.attachment import Model, attach, zero_init_layers
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import attention_layers, geometry

WEIGHTS, CONFIG = "adapter.safetensors", "adapter_config.json"
SAMPLES_PER_TENSOR = 64


def adapter_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Prompts and gates by their names in the model's state dict.

    Raises:
        ZiaError: the model has none.
    """
    if not zero_init_layers(model):
        raise ZiaError(f"{type(model).__name__} has no zero-init attention; call attach() first.")
    return {
        name: tensor.detach()
        for name, tensor in model.state_dict().items()
        if ".zero_init." in name
    }


def backbone_identity(model: nn.Module) -> dict[str, Any]:
    """Which backbone this is: class, sizes, and a fingerprint of its frozen weights.

    The fingerprint is a hash over every weight's name and shape and 64 of its values, evenly
    spaced and rounded to bfloat16: two checkpoints of one architecture differ in it, the same
    checkpoint loaded in float32 or bfloat16 does not, and 7B parameters take well under a second.
    """
    layers = attention_layers(model)
    shape = geometry(layers[-1])
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        if ".zero_init." in name:
            continue
        step = max(1, weight.numel() // SAMPLES_PER_TENSOR)
        values = weight.detach().flatten()[::step][:SAMPLES_PER_TENSOR]
        rounded = values.to("cpu", torch.bfloat16).view(torch.int16)
        digest.update(f"{name} {tuple(weight.shape)} ".encode() + rounded.numpy().tobytes())
    return {
        "class": type(model).__name__,
        "width": shape.width,
        "layers": len(layers),
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "fingerprint": digest.hexdigest()[:16],
    }


def save_adapter(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write `adapter.safetensors` and `adapter_config.json` into a folder (made if missing).

    Each file appears whole or not at all. Returns the folder.
    """
    tensors = {name: t.contiguous().cpu() for name, t in adapter_state_dict(model).items()}
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    record = {
        "method": "zero-init attention",
        "config": zero_init_layers(model)[0].config.to_json(),
        "backbone": backbone_identity(model),
    }
    _write(target / WEIGHTS, save(tensors))
    _write(target / CONFIG, (json.dumps(record, indent=1, sort_keys=True) + "\n").encode())
    return target


def load_adapter(
    model: Model, folder: str | os.PathLike[str], *, other_backbone: bool = False
) -> Model:
    """Load an adapter; attaches first if the model has none.

    Args:
        model: the backbone that the adapter was trained on, adapted with the same config or bare.
        folder: what `save_adapter` wrote.
        other_backbone: accept other weights of the same shape (a quantised copy, say).

    Raises:
        ZiaError: files missing or damaged, another backbone, another config; names both sides.
    """
    source = Path(folder)
    record, tensors = _read(source)
    config = ZeroInitConfig.from_json(record["config"])
    ours, theirs = backbone_identity(model), record["backbone"]
    differing = [key for key in ours if ours[key] != theirs.get(key)]
    if other_backbone:
        differing = [key for key in differing if key not in ("class", "fingerprint")]
    if differing:
        raise ZiaError(
            f"The adapter {source} was trained on {_describe(theirs)}, but this model is "
            f"{_describe(ours)} (different: {', '.join(differing)}); load the backbone that it "
            "was trained on."
        )
    layers = zero_init_layers(model)
    if not layers:
        attach(model, config)
    elif layers[0].config != config or len(layers) != config.num_layers:
        raise ZiaError(
            f"The adapter {source} has {_difference(config, layers[0].config)}; detach the model's "
            "own prompts first or attach with the adapter's config."
        )
    expected = adapter_state_dict(model)
    if {n: t.shape for n, t in expected.items()} != {n: t.shape for n, t in tensors.items()}:
        raise ZiaError(
            f"The tensors in {source / WEIGHTS} are not those that its {CONFIG} describes; "
            "copy the two files of one adapter together again."
        )
    model.load_state_dict(tensors, strict=False)
    return model


def _write(path: Path, payload: bytes) -> None:
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(payload)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ZiaError(
            f"Cannot write {path}: {error.strerror}; free space or choose another folder."
        ) from error


def _read(source: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    try:
        record = json.loads((source / CONFIG).read_text("utf-8"))
        if not isinstance(record, dict) or not {"config", "backbone"} <= record.keys():
            raise ValueError("it lacks 'config' or 'backbone'")
    except FileNotFoundError as error:
        raise ZiaError(f"There is no adapter in {source}: {CONFIG} is missing.") from error
    except ValueError as error:
        raise ZiaError(
            f"{source / CONFIG} is damaged ({error}); save the adapter again."
        ) from error
    try:
        return record, load_file(source / WEIGHTS)
    except FileNotFoundError as error:
        raise ZiaError(f"There is no adapter in {source}: {WEIGHTS} is missing.") from error
    except SafetensorError as error:
        raise ZiaError(
            f"{source / WEIGHTS} is damaged ({error}); save the adapter again."
        ) from error


def _describe(identity: Mapping[str, Any]) -> str:
    return (
        f"{identity.get('class')} with {identity.get('layers')} layers of width "
        f"{identity.get('width')} (weights {identity.get('fingerprint')})"
    )


def _difference(file: ZeroInitConfig, model: ZeroInitConfig) -> str:
    theirs, ours = file.to_json(), model.to_json()
    return ", ".join(
        f"{key}={theirs[key]!r} where the model has {ours[key]!r}"
        for key in theirs
        if theirs[key] != ours[key]
    )
