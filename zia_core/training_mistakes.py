"""Warn, once each, of mistakes that train or save something else than meant.

What is trained is looked at when an optimiser makes its first step.
"""

from __future__ import annotations

import os
import warnings
from functools import partial
from typing import Any
from weakref import WeakKeyDictionary, WeakSet

from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook

from zia_core.head import find_heads
from zia_core.layer import ZeroInit
from zia_core.quantised import is_packed
from zia_core.wrappers import own_parameters, unwrapped, wrapper_chain

_warned: WeakKeyDictionary[nn.Module, set[str]] = WeakKeyDictionary()  # by adapted model
_checked: WeakSet[Optimizer] = WeakSet()
_registered = False
_NOT_SAVED = (
    "from_pretrained will not load the prompts and gates from what save_pretrained or push_to_hub "
    "has saved; call save_adapter(model, folder) too. With transformers' Trainer, "
    "zia_core.hf_trainer.AdapterCheckpoints does."
)


def watch(model: nn.Module) -> None:
    """Look at the optimisers of a bare, adapted model when each makes its first step.

    There is one hook for all optimisers of the process, and none on the model.
    """
    global _registered
    _warned[model] = set()
    if not _registered:
        register_optimizer_step_pre_hook(_before_step)
        _registered = True


def watch_saving(model: nn.Module) -> None:
    """Look at `save_pretrained` of a model and its wrappers, by which an adapter can be lost."""
    for each in wrapper_chain(model):
        if callable(getattr(type(each), "save_pretrained", None)):
            # Neither a closure nor a bound method: deepcopy and pickle rebind it to the copy.
            each.__dict__["save_pretrained"] = partial(_save_pretrained, each)


def unwatch(model: nn.Module) -> None:
    """Undo `watch`, `watch_saving` and `zia_core.hf_trainer`."""
    for each in wrapper_chain(model):
        each.__dict__.pop("save_pretrained", None)
        each.__dict__.pop("load_adapter", None)
        if "_zero_init_kept_keys" in each.__dict__:
            each.__dict__["_keys_to_ignore_on_save"] = each.__dict__.pop("_zero_init_kept_keys")
    _warned.pop(unwrapped(model), None)


def _save_pretrained(
    self: Any, save_directory: str | os.PathLike[str], *args: Any, **kwargs: Any
) -> Any:
    result = type(self).save_pretrained(self, save_directory, *args, **kwargs)
    bare = unwrapped(self)
    if bare in _warned and kwargs.get("is_main_process", True):
        _warn(bare, _NOT_SAVED)
    return result


def is_saved(model: nn.Module) -> None:
    """Do not warn of `save_pretrained` any more."""
    _warned.get(unwrapped(model), set()).add(_NOT_SAVED)


def _before_step(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
    if optimizer in _checked:
        return
    _checked.add(optimizer)
    stepped = {id(p) for group in optimizer.param_groups for p in group["params"]}
    for model in list(_warned):
        if stepped.isdisjoint(id(parameter) for parameter in model.parameters()):
            continue
        for mistake in _mistakes(model, stepped):
            _warn(model, mistake)


def _warn(model: nn.Module, mistake: str) -> None:
    if mistake not in _warned[model]:
        _warned[model].add(mistake)
        warnings.warn(f"{type(model).__name__}: {mistake}", stacklevel=3)


def _mistakes(model: nn.Module, stepped: set[int]) -> list[str]:
    """What is wrong with an optimiser that steps these parameters, by id."""
    layers = [module for module in model.modules() if isinstance(module, ZeroInit)]
    own = [parameter for layer in layers for parameter in layer.parameters()]
    added = {id(parameter) for parameter in own}
    frozen = {id(parameter) for parameter in model.parameters() if not parameter.requires_grad}
    found = []
    if stepped & frozen and not stepped & added and not added <= frozen:
        found.append(
            "the optimiser has no prompts and gates, so they are not trained; make it after "
            "attach()."
        )
    of_backbone = {id(parameter) for parameter in own_parameters(model).values()}
    if added and added <= frozen and stepped - of_backbone:
        found.append(
            "PEFT trains its own parameters and has frozen prompts and gates; call "
            "get_peft_model() before attach()."
        )
    if stepped & {id(parameter) for parameter in own if parameter.itemsize < 4}:
        found.append(
            f"prompts and gates are trained in {own[0].dtype}, which loses small updates; convert "
            "them back: for layer in zero_init_layers(model): layer.float()."
        )
    trained = [parameter for parameter in own if parameter.requires_grad]
    with_gradient = {
        id(parameter) for parameter in model.parameters() if parameter.grad is not None
    }
    if trained and stepped & with_gradient and not added & with_gradient:
        found.append(
            "no gradient has reached prompts and gates; if the backbone is quantised, quantise its "
            "weights only, since torchao's products with quantised activations have no gradient."
        )
    if is_packed(model):
        found.append(
            "its 4-bit weights were packed in a pass before attach(), and gradients end there; "
            "load the model again, and attach first."
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
