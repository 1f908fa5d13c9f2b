"""Change a model completely or not at all."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any, Concatenate, ParamSpec, TypeVar, cast

import torch
from torch import nn

P = ParamSpec("P")
M = TypeVar("M", bound=nn.Module)
R = TypeVar("R")


def all_or_nothing(change: Callable[Concatenate[M, P], R]) -> Callable[Concatenate[M, P], R]:
    """Decorator for functions that modify a model: restore the model if they raise.

    Inference mode is disabled inside: inference tensors could not be trained, and have no version
    counter that would reveal changes.
    """

    @functools.wraps(change)
    def whole(model: M, *args: P.args, **kwargs: P.kwargs) -> R:
        before = _Snapshot(model)
        try:
            with torch.inference_mode(False), torch.set_grad_enabled(torch.is_grad_enabled()):
                return change(model, *args, **kwargs)
        except BaseException:
            before.restore()
            raise

    return cast(Callable[Concatenate[M, P], R], whole)


class _Snapshot:
    """Everything that a change can replace: attributes, hooks, modules, flags and values."""

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
