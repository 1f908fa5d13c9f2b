"""Adapter files: the trained tensors, their config and whose backbone they belong to.

One file, `adapter.safetensors`: prompts and gates under their names in the model's state dict, with
the visual projection and the task head where there is one trained beside them, and in the header
what they are. Never a pickle.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, nn

from zia_core.attachment import Model, attach, zero_init_layers
from zia_core.changes import changes_model, unplaced
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import attention_layers, geometry
from zia_core.head import find_head, train_head, trained_head
from zia_core.visual.attachment import attach_visual, visual_projection
from zia_core.visual.config import VisualConfig

FILE = "adapter.safetensors"
METHOD = "zero-init attention"
SAMPLES_PER_TENSOR = 64
_HEADER = "zia"


def adapter_state_dict(model: nn.Module) -> dict[str, Tensor]:
    """Prompts, gates, visual projection and trained head by their names in the state dict.

    Raises:
        ZiaError: the model has none.
    """
    if not zero_init_layers(model):
        raise ZiaError(f"{type(model).__name__} has no zero-init attention; call attach() first.")
    others = trained_head(model).keys() | _visual_names(model)
    state = model.state_dict()
    return {
        name: tensor.detach()
        for name, tensor in state.items()
        if ".zero_init." in name or name in others
    }


def backbone_identity(model: nn.Module) -> dict[str, Any]:
    """Which backbone this is: class, sizes, and a fingerprint of its frozen weights.

    The fingerprint is a hash over every weight's name and shape and 64 of its values, evenly
    spaced and rounded to bfloat16: two checkpoints of one architecture differ in it, the same
    checkpoint loaded in float32 or bfloat16 does not, and 7B parameters take well under a second.
    A task head is left out: it is new with every task, and trained.
    """
    layers = attention_layers(model)
    if away := [name for name, weight in model.named_parameters() if weight.is_meta]:
        raise ZiaError(unplaced(model, away[0], "An adapter cannot be saved from or loaded on"))
    shape = geometry(layers[-1])
    head = find_head(model)
    of_head = set() if head is None else {id(parameter) for parameter in head.parameters()}
    visual = _visual_names(model)
    digest = hashlib.sha256()
    for name, weight in sorted(model.named_parameters()):
        if ".zero_init." in name or name in visual or id(weight) in of_head:
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


def about_adapter(model: nn.Module) -> dict[str, Any]:
    """What an adapter file says about itself: method, configs and backbone."""
    config, visual = zero_init_layers(model)[0].config, visual_projection(model)
    about = {"method": METHOD, "config": config.to_json(), "backbone": backbone_identity(model)}
    return about if visual is None else about | {"visual": visual.config.to_json()}


def save_adapter(model: nn.Module, folder: str | os.PathLike[str]) -> Path:
    """Write `adapter.safetensors` into a folder (made if missing); returns the file.

    The file appears whole or not at all.
    """
    contents = packed(adapter_state_dict(model), about_adapter(model))
    target = Path(folder)
    target.mkdir(parents=True, exist_ok=True)
    path = target / FILE
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(contents)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise ZiaError(
            f"Cannot write {path}: {error.strerror}; free space or choose another folder."
        ) from error
    return path


@changes_model
def load_adapter(
    model: Model, source: str | os.PathLike[str], *, other_backbone: bool = False
) -> Model:
    """Load an adapter; attaches first if the model has none, the visual projection too.

    A file with a task head loads that too, and trains it from there on.

    Args:
        model: the backbone that the adapter was trained on, adapted with the same config or bare.
        source: the folder that `save_adapter` wrote to, or the file.
        other_backbone: accept other weights of the same shape (a quantised copy, say).

    Raises:
        ZiaError: file missing or damaged, another backbone, another config; names both sides.
    """
    path = Path(source)
    path = path / FILE if path.is_dir() else path
    about, tensors = unpacked(path)
    if about.get("method") != METHOD:
        raise ZiaError(
            f"{path} holds {about.get('method')}, not {METHOD}; load it with its method."
        )
    config = ZeroInitConfig.from_json(about["config"])
    visual = VisualConfig.from_json(about["visual"]) if "visual" in about else None
    check_backbone(path, about, backbone_identity(model), other_backbone)
    layers = zero_init_layers(model)
    if not layers:
        attach(model, config)
    elif layers[0].config != config:
        raise ZiaError(
            f"The adapter {path} has {_difference(config, layers[0].config)}; detach the model's "
            "own prompts first or attach with the adapter's config."
        )
    present = visual_projection(model)
    if visual is not None and present is None:
        attach_visual(model, visual)
    elif present is not None and present.config != visual:
        raise ZiaError(
            f"The adapter {path} has {_visual(visual)} where the model has "
            f"{_visual(present.config)}; detach the model's own first."
        )
    names = adapter_state_dict(model).keys()
    if not tensors.keys() <= names and find_head(model) is not None:
        train_head(model)
    expected = adapter_state_dict(model)
    if {n: t.shape for n, t in expected.items()} != {n: t.shape for n, t in tensors.items()}:
        raise ZiaError(
            f"{path} does not hold the tensors of this model with its config "
            f"({_misfits(expected, tensors)}); build the model for the same task, or save the "
            "adapter again."
        )
    model.load_state_dict(tensors, strict=False)
    return model


def packed(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """An adapter file as bytes; `about` is JSON and goes into its header."""
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    return save(whole, {_HEADER: json.dumps(about, sort_keys=True)})


def unpacked(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read an adapter file: what it says about itself, and its tensors."""
    try:
        with safe_open(path, framework="pt") as file:
            about = json.loads((file.metadata() or {})[_HEADER])
            return about, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ZiaError(f"There is no adapter at {path}.") from error
    except KeyError as error:
        raise ZiaError(f"{path} is not an adapter: its header says nothing about one.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ZiaError(f"{path} is damaged ({error}); save the adapter again.") from error


def check_backbone(
    path: Path, about: Mapping[str, Any], ours: Mapping[str, Any], other_weights: bool = False
) -> None:
    """Refuse an adapter of another backbone, in a sentence that names both sides."""
    theirs = about["backbone"]
    differing = [key for key in ours if ours[key] != theirs.get(key)]
    if other_weights:
        differing = [key for key in differing if key not in ("class", "fingerprint")]
    if differing:
        raise ZiaError(
            f"The adapter {path} was trained on {_describe(theirs)}, but this model is "
            f"{_describe(ours)} (different: {', '.join(differing)}); load the backbone that it "
            "was trained on."
        )


def _describe(identity: Mapping[str, Any]) -> str:
    return (
        f"{identity.get('class')} with {identity.get('layers')} layers of width "
        f"{identity.get('width')} (weights {identity.get('fingerprint')})"
    )


def _visual_names(model: nn.Module) -> set[str]:
    """The visual projection's parameters as the model names them.

    By module and not by the text: some of CLIP's classes have a frozen part of that name.
    """
    projection = visual_projection(model)
    own = set() if projection is None else {id(p) for p in projection.parameters()}
    return {name for name, parameter in model.named_parameters() if id(parameter) in own}


def _visual(config: VisualConfig | None) -> str:
    return "no visual projection" if config is None else f"the visual projection {config}"


def _misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """What is in one of the two alone or of another shape, in a few words."""
    differing = [
        f"{name}: {_shape(found.get(name))} instead of {_shape(expected.get(name))}"
        for name in sorted(expected.keys() | found.keys())
        if _shape(expected.get(name)) != _shape(found.get(name))
    ]
    return differing[0] + (f" and {len(differing) - 1} more" if len(differing) > 1 else "")


def _shape(tensor: Tensor | None) -> str:
    return "nothing" if tensor is None else str(tuple(tensor.shape))


def _difference(file: ZeroInitConfig, model: ZeroInitConfig) -> str:
    theirs, ours = file.to_json(), model.to_json()
    return ", ".join(
        f"{key}={theirs[key]!r} where the model has {ours[key]!r}"
        for key in theirs
        if theirs[key] != ours[key]
    )
