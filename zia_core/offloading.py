"""Refuse models whose weights are offloaded, as by accelerate."""

from __future__ import annotations

from torch import nn

from zia_core.errors import ZiaError


def refuse_offloaded(model: nn.Module, what: str) -> None:
    """Refuse a model with offloaded weights. One entirely on `meta` is accepted.

    Args:
        model: the model to change or read.
        what: the start of the message: "... cannot be attached to".

    Raises:
        ZiaError: some, but not all, of its parameters are on `meta`.
    """
    away = [name for name, parameter in model.named_parameters() if parameter.is_meta]
    if away and len(away) < sum(1 for _ in model.parameters()):
        raise ZiaError(offloaded(model, away[0], what))


def offloaded(model: nn.Module, name: str, what: str) -> str:
    """The message for a weight that is on `meta`."""
    return (
        f"{what} {type(model).__name__}: its weight {name} is on meta; load the model without "
        "offloading (device_map={'': 0} or 'cpu'), or take accelerate's hooks off first "
        "(accelerate.hooks.remove_hook_from_submodules(model))."
    )
