"""Save and load adapters.

An adapter is one file, `adapter.safetensors`: prompts and gates under their state-dict names, plus
the visual projection and the trained task head if there are any. The header holds the config and
the backbone's identity. Nothing is pickled.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save
from torch import Tensor, distributed, nn

from zia_core.attachment import Model, attach, zero_init_layers
from zia_core.call_state import DEFAULT
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import tower_of, towers
from zia_core.files import write_atomic, write_errors
from zia_core.head import (
    by_name,
    find_heads,
    new_parts,
    poolers,
    refuse_quantised,
    train_parts,
    trained_head,
)
from zia_core.hub import ADAPTER_FILE, ModelCard, describe, local_file, refuse_folder_of_others
from zia_core.identity import (
    added_parameters,
    check_backbone,
    flat_shards_gathered,
    gathered,
    identity_against,
    scattered,
    tower_of_file,
    weights_identity,
)
from zia_core.rollback import all_or_nothing
from zia_core.sharding import is_sharded
from zia_core.strict_json import loads
from zia_core.training_mistakes import is_saved
from zia_core.visual.attachment import attach_visual, visual_projection
from zia_core.visual.config import VisualConfig
from zia_core.wrappers import own_parameters, unwrapped

FILE = ADAPTER_FILE
METHOD = "zero-init attention"
_HEADER = "zia"


def adapter_state_dict(model: nn.Module, adapter: str = DEFAULT) -> dict[str, Tensor]:
    """The tensors that `save_adapter` writes, by their names in the bare model.

    For the model's own adapter these are prompts, gates, visual projection, task heads, poolers not
    known to come from the checkpoint, and anything else trained outside the backbone's layers; for
    one added by name, its prompts and gates under the names of the model's own. They share memory
    with the parameters, unless those are sharded.

    Args:
        model: bare or wrapped.
        adapter: a name from `adapter_names`.

    Raises:
        ZiaError: no zero-init attention, no adapter of that name, or trained parameters that an
            adapter file cannot hold.
    """
    return {name: gathered(parameter) for name, parameter in _held(model, adapter).items()}


def about_adapter(
    model: nn.Module, backbone: Mapping[str, Any], adapter: str = DEFAULT
) -> dict[str, Any]:
    """The header of an adapter file: method, configs and backbone."""
    layer = zero_init_layers(model)[-1].adapter(adapter)
    visual = visual_projection(model) if adapter == DEFAULT else None
    assert layer is not None
    about = {"method": METHOD, "config": layer.config.to_json(), "backbone": backbone}
    return about if visual is None else about | {"visual": visual.config.to_json()}


def save_adapter(
    model: nn.Module,
    folder: str | os.PathLike[str],
    adapter: str = DEFAULT,
    *,
    card: ModelCard | None = None,
) -> Path:
    """Write an adapter to a folder: `adapter.safetensors`, `adapter_config.json` and a model card.

    Nothing is pickled and each write is atomic. All weights of the backbone are hashed (11 s for a
    billion parameters in bfloat16), so that `load_adapter` can tell another one. Under
    `fully_shard` and FullyShardedDataParallel (with `use_orig_params=True`), every rank must call
    this, and the first one writes.

    Args:
        model: bare or wrapped: compiled, in DistributedDataParallel, sharded, or a PeftModel.
        folder: to write to; created if missing.
        adapter: a name from `adapter_names`.
        card: data, metrics and licence for the model card; a README.md of your own is kept.

    Returns:
        The path of `adapter.safetensors`.

    Raises:
        ZiaError: no zero-init attention, no adapter of that name, offloaded weights, trained
            parameters that an adapter file cannot hold, or a folder that is not writable or holds
            a model or an adapter of PEFT.
    """
    refuse_folder_of_others(Path(folder))
    is_saved(model)
    with flat_shards_gathered(model) as flat:
        held = _held(model, adapter)
        about = about_adapter(model, weights_identity(model, held), adapter)
        frozen = sorted(name for name, parameter in held.items() if not parameter.requires_grad)
        if frozen and adapter == DEFAULT:
            about["frozen"] = frozen
        contents = packed(adapter_state_dict(model, adapter), about)
    path = Path(folder, FILE)
    if (flat or is_sharded(model)) and distributed.get_rank() > 0:
        return path
    with write_errors(path):
        path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, contents)
    describe(path.parent, model, about, card or ModelCard())
    return path


@all_or_nothing
def load_adapter(
    model: Model, source: str | os.PathLike[str], *, other_backbone: bool = False
) -> Model:
    """Load an adapter in place, attaching prompts and visual projection first if there are none.

    A task head in the file is loaded too. What was trained becomes trainable, the rest is frozen.

    Args:
        model: the backbone that the adapter was trained on, bare or attached with the same config.
        source: the folder that `save_adapter` wrote, the file in it, or `owner/name[@revision]` on
            the hub. A local path comes first.
        other_backbone: accept other weights of the same shape, such as a quantised copy.

    Returns:
        The same model.

    Raises:
        ZiaError: the file is missing or damaged, or its backbone or config differs from the
            model's; the message names both. The model is unchanged.
    """
    path, about, tensors = adapter_file(source)
    config = ZeroInitConfig.from_json(about["config"])
    visual = VisualConfig.from_json(about["visual"]) if "visual" in about else None
    ours = identity_against(model, about["backbone"], tensors.keys(), not other_backbone)
    check_backbone(path, about, ours, other_backbone)
    layers = zero_init_layers(model)
    if not layers:
        attach(model, config, tower=tower_of_file(model, about["backbone"]))
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
    trained = tensors.keys() - set(about.get("frozen", ()))
    for part in [*find_heads(model), *poolers(model)]:
        if (names := by_name(model, [part]).keys()) & tensors.keys():
            refuse_quantised(part)
            train_parts([part] if names & trained else [])
    _load(path, model, tensors)
    for name, parameter in own_parameters(model).items():
        if name in tensors:
            parameter.requires_grad_(name in trained)
    return model


def adapter_file(
    source: str | os.PathLike[str],
) -> tuple[Path, dict[str, Any], dict[str, Tensor]]:
    """Path, header and tensors of a zero-init adapter, given its file, folder, or hub name.

    Raises:
        ZiaError: it is missing or damaged, or of another method.
    """
    path = local_file(Path(source), os.fspath(source))
    about, tensors = unpacked(path)
    if about.get("method") != METHOD:
        raise ZiaError(
            f"{path} holds {about.get('method')}, not {METHOD}; load it with its method."
        )
    return path, about, tensors


def packed(tensors: Mapping[str, Tensor], about: Mapping[str, Any]) -> bytes:
    """An adapter file as bytes, with `about` as JSON in its header."""
    whole = {name: tensor.detach().contiguous().cpu() for name, tensor in tensors.items()}
    return save(whole, {_HEADER: json.dumps(about, sort_keys=True)})


def unpacked(path: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Read the header and the tensors of an adapter file."""
    try:
        with safe_open(path, framework="pt") as file:
            about = loads((file.metadata() or {})[_HEADER])
            _check_header(path, about)
            about = {"backbone": {}} | about  # without one it matches no model
            tensors = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except FileNotFoundError as error:
        raise ZiaError(f"There is no adapter at {path}.") from error
    except KeyError as error:
        raise ZiaError(f"{path} is not an adapter: its header says nothing about one.") from error
    except (SafetensorError, OSError, ValueError) as error:
        raise ZiaError(f"{path} is damaged ({error}); save the adapter again.") from error
    for name, tensor in tensors.items():
        if not tensor.is_floating_point():
            raise ZiaError(
                f"{path} is damaged: {name} is {tensor.dtype}, which is never trained; save the "
                "adapter again."
            )
    return about, tensors


def _check_header(path: Path, about: Any) -> None:
    """Refuse JSON that `about_adapter` did not write."""
    try:
        parts = (about, *(about.get(name, {}) for name in ("backbone", "config", "visual")))
        if not all(isinstance(part, dict) for part in parts):
            raise ZiaError("a part of it is not an object")
        if about.get("method") == METHOD:
            ZeroInitConfig.from_json(about["config"])
        if "visual" in about:
            VisualConfig.from_json(about["visual"])
    except (ZiaError, LookupError, TypeError, AttributeError) as error:
        said = error if isinstance(error, ZiaError) else f"{type(error).__name__}: {error}"
        raise ZiaError(f"The header of {path} is not that of an adapter: {said}") from error


def _held(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """The parameters of an adapter file; see `adapter_state_dict`."""
    layers = zero_init_layers(model)
    if not layers:
        raise ZiaError(
            f"{type(unwrapped(model)).__name__} has no zero-init attention; call attach() first."
        )
    if adapter != DEFAULT:
        return named_adapter_parameters(model, adapter)
    own, added = _without_named(model), added_parameters(model)
    new = by_name(model, new_parts(model))
    held = {
        name: parameter
        for name, parameter in own.items()
        if id(parameter) in added or name in new or parameter.requires_grad
    }
    known = {id(parameter) for parameter in held.values()}
    if any(id(p) not in known or p.ndim < 2 for p in (layer.prompt for layer in layers)):
        raise ZiaError(
            "The prompts are sharded by FullyShardedDataParallel; save inside "
            "FullyShardedDataParallel.summon_full_params(model), or shard with fully_shard."
        )
    of_layers = towers(unwrapped(model)).keys()
    for name, parameter in held.items():
        if id(parameter) not in added and tower_of(name) in of_layers:
            raise ZiaError(
                f"{name} is trained, but adapter files do not hold parameters of the backbone's "
                "layers; freeze it (requires_grad_(False)) if it still has its pretrained value, "
                "or save the whole model."
            )
    return held


def _load(path: Path, model: nn.Module, tensors: Mapping[str, Tensor]) -> None:
    own, added = _without_named(model), added_parameters(model)
    needed = {n: p for n, p in own.items() if id(p) in added} | trained_head(model)
    expected = {name: p for name, p in own.items() if name in needed or name in tensors}
    if {n: t.shape for n, t in expected.items()} != {n: t.shape for n, t in tensors.items()}:
        raise misfit(path, expected, tensors)
    for name, tensor in tensors.items():
        with torch.inference_mode(own[name].is_inference()), torch.no_grad():
            own[name].copy_(scattered(tensor, own[name]))


def named_adapter_parameters(model: nn.Module, adapter: str) -> dict[str, nn.Parameter]:
    """The prompts and gates of a named adapter, by the names of the model's own.

    Raises:
        ZiaError: there is none of that name.
    """
    names = {id(parameter): name for name, parameter in own_parameters(model).items()}
    found = {
        f"{names[id(layer.prompt)].removesuffix('prompt')}{kind}": parameter
        for layer in zero_init_layers(model)
        if (named := layer.adapter(adapter)) is not None
        for kind, parameter in named.named_parameters(recurse=False)
    }
    if not found:
        raise ZiaError(f"The model has no adapter {adapter!r}.")
    return found


def misfit(path: Path, expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> ZiaError:
    """The error of a file with other tensors than the model needs."""
    return ZiaError(
        f"{path} does not hold the tensors of this model with its config "
        f"({_misfits(expected, found)}); build the model for the same task, or save the adapter "
        "again."
    )


def _without_named(model: nn.Module) -> dict[str, nn.Parameter]:
    """A model's parameters, without those of adapters that were added by name."""
    return {n: p for n, p in own_parameters(model).items() if ".zero_init.named." not in f".{n}"}


def _visual(config: VisualConfig | None) -> str:
    return "no visual projection" if config is None else f"the visual projection {config}"


def _misfits(expected: Mapping[str, Tensor], found: Mapping[str, Tensor]) -> str:
    """Describe the first tensor that is missing or has another shape, and count the rest."""
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
