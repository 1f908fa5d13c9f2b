"""Identify the backbone of an adapter: its class, sizes, and hashes of its weights.

An adapter only works on the weights it was trained on, so the hash covers every value of every
weight that is not in the adapter file, named as in the bare model.

The same checkpoint has different values in float16, bfloat16 and float32. A file therefore has one
hash for each precision that its weights can be rounded to, and two models are compared in the
coarser of theirs. (A float16 and a bfloat16 copy of *float32* weights do not match.) Of a quantised
weight, codes and scales are hashed, so it matches only what was quantised in the same way.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.errors import ZiaError
from zia_core.families import attention_layers, geometry, tower_of, towers
from zia_core.head import find_heads
from zia_core.layer import ZeroInit
from zia_core.offloading import offloaded
from zia_core.quantised import Stored, stored
from zia_core.visual.attachment import visual_projection
from zia_core.wrappers import bare_class, held_parameters, own_parameters, unwrapped

SAMPLES_PER_TENSOR = 64
HALF = ("bfloat16", "float16")
_THREADS = 4  # hashing releases the GIL; more threads would wait for memory


def backbone_shape(model: nn.Module, tower: str | None = None) -> dict[str, Any]:
    """The class and sizes of a backbone, and which tower of several.

    Args:
        model: bare, adapted or wrapped.
        tower: which, if none is adapted; see `attention_layers`.

    Raises:
        ZiaError: unsupported backbone, or offloaded weights.
    """
    model = unwrapped(model)
    layers = attention_layers(model, tower)
    if away := [name for name, weight in own_parameters(model).items() if weight.is_meta]:
        raise ZiaError(offloaded(model, away[0], "An adapter cannot be saved from or loaded on"))
    shape = geometry(layers[-1])
    return {
        "class": bare_class(model).__name__,
        "width": shape.width,
        "layers": len(layers),
        "heads": shape.heads,
        "kv_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        **({"tower": tower_of(layers[0].name)} if len(towers(model)) > 1 else {}),
    }


def backbone_identity(model: nn.Module, tower: str | None = None) -> dict[str, Any]:
    """The identity that runs record, and older adapter files: a fingerprint of samples.

    It hashes every weight's name, shape and 64 evenly spaced values, rounded to bfloat16. Different
    checkpoints of an architecture differ; the same checkpoint in float32 and bfloat16 does not. (A
    run also records hashes of its weight files.) The task head is left out: it is new with every
    task, and trained.
    """
    shape, heads, skipped = backbone_shape(model, tower), find_heads(model), added_parameters(model)
    if len(heads) == 1:  # recorded fingerprints include the heads of models with two
        skipped |= {id(parameter) for parameter in heads[0].parameters()}
    digest = hashlib.sha256()
    for name, (module, parameter) in sorted(held_parameters(model).items()):
        if id(parameter) in skipped:
            continue
        weight = stored(module, parameter)
        digest.update(f"{name} {weight.shape} ".encode())
        for part in map(gathered, weight.parts()):
            step = max(1, part.numel() // SAMPLES_PER_TENSOR)
            values = part.flatten()[::step][:SAMPLES_PER_TENSOR]
            digest.update(values.to("cpu", torch.bfloat16).view(torch.int16).numpy().tobytes())
    return shape | {"fingerprint": digest.hexdigest()[:16]}


def weights_identity(model: nn.Module, held: Collection[str]) -> dict[str, Any]:
    """Class, sizes and hashes of all weights that are not in an adapter file.

    Args:
        model: bare, adapted or wrapped.
        held: names of the tensors in the adapter file.
    """
    shape, rows = backbone_shape(model), checkpoint_rows(model)
    weights = _weights(model, held, rows)
    kinds = _kinds(weights)
    precisions = HALF if set(kinds) & set(HALF) else ("float32", *HALF)
    found: dict[str, Any] = {"weights": {"in": kinds, **_digests(weights, precisions)}}
    return shape | found | ({} if rows is None else {"rows": rows})


def identity_against(
    model: nn.Module, theirs: Mapping[str, Any], held: Collection[str], weights: bool = True
) -> dict[str, Any]:
    """A model's identity, as far as it can be compared with that in a file.

    Args:
        model: bare, adapted or wrapped.
        theirs: the file's `backbone`.
        held: names of the tensors in the file.
        weights: compare weights too, not only class and sizes.
    """
    tower = tower_of_file(model, theirs)
    if "weights" not in theirs:
        return backbone_identity(model, tower) if weights else backbone_shape(model, tower)
    ours = backbone_shape(model, tower)
    if not weights:
        return ours
    if (rows := theirs.get("rows")) is not None:
        # Rows added to either embedding are not from the checkpoint.
        ours["rows"] = min(rows, _vocabulary(model) or 0)
    found = _weights(model, held, ours.get("rows"))
    kinds = {*_kinds(found), *theirs["weights"]["in"]}
    precisions = [kind for kind in HALF if kind in kinds] or ["float32"]
    digests = _digests(found, precisions)
    same = any(digests[kind] == theirs["weights"].get(kind) for kind in precisions)
    return ours | {"weights": theirs["weights"] if same else {"in": _kinds(found), **digests}}


def tower_of_file(model: nn.Module, theirs: Mapping[str, Any]) -> str | None:
    """The tower that an adapter file's `backbone` names, if a bare model has it too."""
    name, adapted = theirs.get("tower"), any(isinstance(m, ZeroInit) for m in model.modules())
    known = isinstance(name, str) and name in towers(unwrapped(model))
    return name if known and not adapted else None


def check_backbone(
    path: Path,
    about: Mapping[str, Any],
    ours: Mapping[str, Any],
    other_weights: bool | None = None,
) -> None:
    """Refuse an adapter of another backbone, naming both.

    Args:
        path: of the adapter, for the message.
        about: its header.
        ours: the identity of the model.
        other_weights: accept another class and other weights of the same sizes; None if the caller
            does not offer that.
    """
    theirs = about["backbone"]
    differing = [key for key in ours if ours[key] != theirs.get(key)]
    if other_weights:
        differing = [key for key in differing if key in _SIZES]
    if differing:
        what = "load the backbone that it was trained on"
        if other_weights is False and not set(differing) & set(_SIZES):
            what += ", or say other_backbone=True to have it on this one all the same"
        raise ZiaError(
            f"The adapter {path} was trained on {_describe(theirs)}, but this model is "
            f"{_describe({**theirs, **ours})} (different: {', '.join(differing)}); {what}."
        )


_SIZES = ("width", "layers", "heads", "kv_heads", "head_dim")


def checkpoint_rows(model: nn.Module) -> int | None:
    """How many rows of the word embedding are from the checkpoint; None for models without one.

    `resize_token_embeddings` changes the model's config, so the checkpoint's own is looked up in
    its folder or the hub's cache, never on a network. If it is not found, all rows count.
    """
    rows = _vocabulary(model)
    where = getattr(getattr(unwrapped(model), "config", None), "_name_or_path", "")
    if rows is None or not where:
        return rows
    from transformers import PreTrainedConfig

    try:
        config, _ = PreTrainedConfig.get_config_dict(where, local_files_only=True)
    except (OSError, ValueError):
        return rows
    stored = (config.get("text_config") or config).get("vocab_size")
    return min(rows, stored) if isinstance(stored, int) and stored > 0 else rows


def _vocabulary(model: nn.Module) -> int | None:
    words = _embedding(unwrapped(model), "get_input_embeddings")
    return len(words.weight) if isinstance(words, nn.Embedding) else None


def _embedding(model: Any, getter: str) -> Any:
    try:
        return getattr(model, getter)()
    except (AttributeError, NotImplementedError):
        return None


def added_parameters(model: nn.Module) -> set[int]:
    """The ids of the parameters of prompts, gates and visual projection."""
    parts = [module for module in model.modules() if isinstance(module, ZeroInit)]
    visual = visual_projection(model)
    return {id(p) for part in [*parts, *filter(None, [visual])] for p in part.parameters()}


def _weights(model: nn.Module, held: Collection[str], rows: int | None) -> dict[str, Stored]:
    added, bare = added_parameters(model), unwrapped(model)
    by_row = {
        id(parameter)
        for getter in ("get_input_embeddings", "get_output_embeddings")
        for parameter in getattr(_embedding(bare, getter), "_parameters", {}).values()
    }
    return {
        name: stored(module, weight, rows if id(weight) in by_row else None)
        for name, (module, weight) in sorted(held_parameters(model).items())
        if name not in held and id(weight) not in added
    }


def _kinds(weights: Mapping[str, Stored]) -> list[str]:
    return sorted({weight.kind for weight in weights.values()})


def _digests(weights: Mapping[str, Stored], precisions: Collection[str]) -> dict[str, str]:
    """Hashes of names, shapes and all values, one for each precision they are rounded to."""
    in_pieces = any(weight.in_pieces for weight in weights.values())
    # Ranks must gather shards in the same order.
    threads = 1 if in_pieces else min(_THREADS, os.cpu_count() or 1)
    with ThreadPoolExecutor(threads) as pool:
        parts = pool.map(lambda weight: _each(weight, precisions), weights.values())
        whole = {kind: hashlib.sha256() for kind in precisions}
        for (name, weight), part in zip(weights.items(), parts, strict=True):
            for kind in precisions:
                whole[kind].update(f"{name} {weight.shape} {part[kind]} ".encode())
    return {kind: digest.hexdigest()[:32] for kind, digest in whole.items()}


def _each(weight: Stored, precisions: Collection[str]) -> dict[str, str]:
    """Its hash in each precision; codes and scales of a quantised one are not rounded."""
    digests = {kind: hashlib.sha256() for kind in precisions}
    for part in weight.parts():
        values = gathered(part).cpu().flatten()
        for kind, digest in digests.items():
            rounds = values.is_floating_point() and not weight.quantised
            each = values.to(getattr(torch, kind)) if rounds else values
            # A copy: a storage that NumPy has seen can't be resized, as a wrapper may have to.
            digest.update(each.clone().view(torch.uint8).numpy().data)
    return {kind: digest.hexdigest() for kind, digest in digests.items()}


def gathered(tensor: Tensor) -> Tensor:
    """The whole of a tensor that `fully_shard` may have sharded; every rank must call this."""
    whole: Any = getattr(tensor.detach(), "full_tensor", None)
    return tensor.detach() if whole is None else whole()


@contextmanager
def flat_shards_gathered(model: nn.Module) -> Iterator[bool]:
    """Gather what FullyShardedDataParallel has sharded, to read it; every rank must enter this.

    Yields whether it did: not if there is nothing such, or its caller has it gathered already.
    """
    flat: list[Any] = [m for m in model.modules() if type(m).__name__ == "FullyShardedDataParallel"]
    if not flat or any(m.training_state.name == "SUMMON_FULL_PARAMS" for m in flat):
        yield False
        return
    with type(flat[0]).summon_full_params(model, writeback=False):
        yield True


def scattered(tensor: Tensor, like: Tensor) -> Tensor:
    """A tensor sharded as `like` is; returned as it is if `like` is not sharded."""
    if not hasattr(like, "full_tensor"):
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh: Any = like
    return distribute_tensor(tensor.to(like.device), mesh.device_mesh, mesh.placements)


def _describe(identity: Mapping[str, Any]) -> str:
    weights = identity.get("weights") or {}
    digest = identity.get("fingerprint") or next(
        (weights[kind][:16] for kind in ("float32", *HALF) if kind in weights), "not compared"
    )
    quantised = [kind for kind in weights.get("in", ()) if " " in kind]
    how = f", quantised as {', '.join(quantised)}" if quantised else ""
    return (
        f"{identity.get('class')} with {identity.get('layers')} layers of width "
        f"{identity.get('width')} (weights {digest}{how})"
    )
