"""Warn of three mistakes that train something else than meant, at an optimiser's first step."""

from __future__ import annotations

import warnings
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from zia_core.head import find_heads
from zia_core.layer import ZeroInit

_warned: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # by adapted model
_checked: WeakSet[Optimizer] = WeakSet()
_registered = False


def watch(model: nn.Module) -> None:
    """Look at the optimisers of a bare, adapted model when each makes its first step.

    There is one hook for all optimisers of the process, and none on the model.
    """
    global _registered
    _warned[model] = set()
    if not _registered:
        register_optimizer_step_pre_hook(_before_step)
        _registered = True


def unwatch(model: nn.Module) -> None:
    """Undo `watch`."""
    _warned.pop(model, None)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if optimizer in _checked:
        return
    _checked.add(optimizer)
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for model, warned in list(_warned.items()):
        if stepped.isdisjoint(id(parameter) for parameter in model.parameters()):
            continue
        for mistake in _mistakes(model, stepped):
            if mistake not in warned:
                warned.add(mistake)
                warnings.warn(f"{type(model).__name__}: {mistake}", stacklevel=2)


def _mistakes(model: nn.Module, stepped: set[int]) -> list[str]:
    """What is wrong with an optimiser that steps these parameters, by id."""
    layers = [module for module in model.modules() if isinstance(module, ZeroInit)]
    added = {id(parameter) for layer in layers for parameter in layer.parameters()}
    frozen = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
    found = []
    if stepped & frozen and not stepped & added and not added <= frozen:
        found.append(
            "the optimiser has no prompts and gates, so they are not trained; make it after "
            "attach()."
        )
    if not frozen and not stepped <= added:
        found.append(
            "the whole backbone is trained, and an adapter file will not hold it; leave out "
            "requires_grad_(True) after attach()."
        )
    heads = [parameter for head in find_heads(model) for parameter in head.parameters()]
    if heads and not any(parameter.requires_grad for parameter in heads):
        found.append("its task head is frozen; train_head(model) trains it, if it is new.")
    return found
