"""Several adapters on one backbone, chosen by name for each call or each row of a batch."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import nn

from zia_core.adapters import adapter_file, misfit, named_adapter_parameters
from zia_core.attachment import Model, layers_of_call, zero_init_layers
from zia_core.call_state import DEFAULT, Rows, within_call
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.identity import check_backbone, identity_against
from zia_core.layer import ZeroInit
from zia_core.rollback import all_or_nothing
from zia_core.wrappers import refuse_sharing, unwrapped


@all_or_nothing
def add(
    model: Model,
    name: str,
    source: ZeroInitConfig | str | os.PathLike[str],
    *,
    other_backbone: bool = False,
) -> Model:
    """Add a named adapter beside the model's own, in place; `use` switches to it.

    It has prompts and gates of its own in the top layers, and shares everything else. It may have
    another number of prompts, and no more layers than the model's own, which is called "default".

    Args:
        model: after `attach` or `load_adapter`.
        name: of the new adapter, without dots.
        source: an adapter as for `load_adapter`, whose parameters are frozen; or the config of a
            new one, drawn at random, which is trained inside `use`.
        other_backbone: as for `load_adapter`.

    Returns:
        The same model.

    Raises:
        ZiaError: the model has no adapter, the name is taken, the source does not fit the model, or
            has more than prompts and gates. The model is unchanged.
    """
    layers = zero_init_layers(model)
    if not layers:
        raise ZiaError(
            f"{type(unwrapped(model)).__name__} has no zero-init attention; call attach() or "
            "load_adapter() first."
        )
    if not isinstance(name, str):
        raise ZiaError(f"The name of an adapter is a string, not {name!r:.60}.")
    if not name or "." in name or hasattr(nn.ModuleDict(), name) or name in adapter_names(model):
        raise ZiaError(
            f"An adapter cannot be called {name!r}: a name is not empty, has no dot, is not that "
            f"of a dict's method, and is new (there are {', '.join(adapter_names(model))})."
        )
    refuse_sharing(model, "named adapters")
    if isinstance(source, ZeroInitConfig):
        _install(layers, name, source, "The config")
        return model
    path, about, tensors = adapter_file(source)
    ours = identity_against(model, about["backbone"], tensors.keys(), not other_backbone)
    check_backbone(path, about, ours, other_backbone)
    _install(layers, name, ZeroInitConfig.from_json(about["config"]), str(path))
    parameters = named_adapter_parameters(model, name)
    if more := sorted(tensors.keys() - parameters.keys()):
        raise ZiaError(
            f"{path} has more than prompts and gates ({more[0]}), which a named adapter shares "
            "with the model; load it with load_adapter."
        )
    if {n: t.shape for n, t in tensors.items()} != {n: p.shape for n, p in parameters.items()}:
        raise misfit(path, parameters, tensors)
    for own, parameter in parameters.items():
        parameter.requires_grad_(False).copy_(tensors[own])
    return model


def remove(model: nn.Module, name: str) -> None:
    """Remove an adapter that was added by name, in place.

    Args:
        model: bare or wrapped.
        name: any from `adapter_names` but "default", the model's own; `detach` removes all.

    Raises:
        ZiaError: there is none of that name, or it is the model's own.
    """
    _check_names(model, [name])
    if name == DEFAULT:
        raise ZiaError("the model's own adapter cannot be removed; detach takes all of them.")
    for layer in zero_init_layers(model):
        layer.others().pop(name, None)


def adapter_names(model: nn.Module) -> list[str]:
    """The names of the model's adapters, "default" first."""
    return [DEFAULT, *(name for layer in zero_init_layers(model)[-1:] for name in layer.others())]


@contextmanager
def use(model: Model, adapter: str | Sequence[str | None] | None) -> Iterator[Model]:
    """Use a named adapter within the block, or another one for each row.

    Blocks nest, and apply to this thread or asyncio task only, as for `condition`. With one adapter
    per row, the prompts' term is computed by plain products, also on a GPU.

    Args:
        model: an adapted model, bare or wrapped.
        adapter: a name from `adapter_names`; None for the backbone alone; or a list of these, one
            per sample (in generation, one per beam or returned sequence).

    Raises:
        ZiaError: an unknown name, an empty list, or rows for the joint softmax.
    """
    layers = layers_of_call(model)
    chosen: str | Rows | None
    if adapter is None or isinstance(adapter, str):
        _check_names(model, [adapter])
        chosen = adapter
    else:
        _check_names(model, adapter)
        if not adapter:
            raise ZiaError("An empty list names no adapter: give one per sample, or None for none.")
        if layers[0].config.softmax == "joint":
            raise ZiaError("With softmax='joint' a batch has one adapter; use one for all rows.")
        chosen = _rows(adapter, layers[0].prompt.device)
    with within_call({layer: replace(layer.state, adapter=chosen) for layer in layers}):
        yield model


@contextmanager
def disabled(model: Model) -> Iterator[Model]:
    """Switch all adapters off within the block: bitwise the backbone; a trained task head stays.

    As `use(model, None)`: it nests, and applies to this thread or asyncio task only.
    """
    with use(model, None):
        yield model


def _install(layers: Sequence[ZeroInit], name: str, config: ZeroInitConfig, source: str) -> None:
    """Add an adapter to the top layers."""
    if "joint" in (config.softmax, layers[0].config.softmax):
        raise ZiaError("Named adapters need softmax='separate', here and in the model.")
    if config.num_layers > len(layers):
        raise ZiaError(
            f"{source} has num_layers={config.num_layers}, but the model's own adapter has "
            f"{len(layers)}; attach with num_layers={config.num_layers} first."
        )
    for layer in layers[-config.num_layers :]:
        adapter = ZeroInit(config, layer.geometry, layer.prompt.device, layer.prompt.dtype)
        adapter.untrainable = layer.untrainable
        adapter.__dict__["owner"] = layer
        if "dropout" in layer._modules:
            adapter.add_module("dropout", layer._modules["dropout"])
        if "named" not in layer._modules:
            layer.add_module("named", nn.ModuleDict())
        layer.get_submodule("named").add_module(name, adapter.train(layer.training))


def _check_names(model: nn.Module, names: Sequence[str | None]) -> None:
    known = adapter_names(model)
    for name in names:
        if name is not None and name not in known:
            raise ZiaError(f"The model has no adapter {name!r}; it has {', '.join(known)}.")


def _rows(names: Sequence[str | None], device: torch.device) -> Rows:
    numbers: dict[str | None, list[int]] = {}
    for number, name in enumerate(names):
        numbers.setdefault(name, []).append(number)
    of = {name: torch.tensor(each, device=device) for name, each in numbers.items()}
    return Rows(of, torch.cat([*of.values()]).argsort())
