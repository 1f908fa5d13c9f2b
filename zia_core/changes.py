"""Change a model completely or not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import nn

from zia_core.errors import ZiaError

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


def changes_model(change: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Decorator for functions that modify a model: restore the model if they raise.

    Inference mode is disabled inside: inference tensors could not be trained, and have no version
    counter that would reveal changes.
    """

    @functools.wraps(change)
    def whole(model: M, *args: P.args, **kwargs: P.kwargs) -> R:
        before = _Before(model)
        try:
            with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()):
                return change(model, *args, **kwargs)
        except BaseException:
            before.restore()
            raise

    return cast(Callable[Concatenate[M, P], R], whole)


def refuse_unplaced(model: nn.Module, what: str) -> None:
    """Refuse a model with offloaded weights. One entirely on `meta` is accepted.

    Args:
        model: the model to change or read.
        what: the start of the message: "... cannot be attached to".

    Raises:
        ZiaError: some, but not all, of its parameters are on `meta`.
    """
    away = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if away and len(away) < sum(1 for _ in model.parameters()):
        raise ZiaError(unplaced(model, away[0], what))


def unplaced(model: nn.Module, name: str, what: str) -> str:
    """The message for a weight that is on `meta`."""
    return (
        f"{what} {type(model).__name__}: its weight {name} is on meta; load the model without "
        "offloading (device_map={'': 0} or 'cpu'), or take accelerate's hooks off first "
        "(accelerate.hooks.remove_hook_from_submodules(model))."
    )


class _Before:
    """A snapshot of what a change can replace: attributes, hooks, modules, flags and values."""

    def __init__(self, model: nn.Module) -> None:
        self._modules = [(module, _contents(module.__dict__)) for module in model.modules()]
        self._parameters = [(p, p.data, p.requires_grad) for p in model.parameters()]

    def restore(self) -> None:
        for module, contents in self._modules:
            module.__dict__.clear()
            for name, (value, inside) in contents.items():
                module.__dict__[name] = value
                if inside is not None:
                    # Refill the same object: handles that remove hooks refer to their dictionary.
                    value.clear()
                    value.update(inside)
        for parameter, data, requires_grad in self._parameters:
            if parameter.dtype != data.dtype or parameter.device != data.device:
                parameter.data = data
            if parameter.requires_grad != requires_grad:
                parameter.requires_grad_(requires_grad)


def _contents(attributes: dict[str, Any]) -> dict[str, tuple[Any, Any]]:
    """Attributes, with a copy of the contents of those that are dicts or sets."""
    return {
        name: (value, value.copy() if isinstance(value, dict | set) else None)
        for name, value in attributes.items()
    }
