"""Unwrap models, and name parameters independently of wrappers.

torch.compile, data parallelism, activation checkpointing and PEFT wrap a model or its submodules
and prefix all names inside (`_orig_mod.`, `module.`, `base_model.model.`, `base_layer.`). Stored
files must not depend on that.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from zia_core.errors import ZiaError

# The attribute that holds the wrapped module, by the wrapper's class or base class.
_WRAPPERS = {
    "torch._dynamo.eval_frame.OptimizedModule": "_orig_mod",
    "torch.nn.parallel.distributed.DistributedDataParallel": "module",
    "torch.nn.parallel.data_parallel.DataParallel": "module",
    "torch.distributed.fsdp.fully_sharded_data_parallel.FullyShardedDataParallel": (
        "_fsdp_wrapped_module"
    ),
    "torch.distributed.algorithms._checkpoint.checkpoint_wrapper.ActivationWrapper": (
        "_checkpoint_wrapped_module"
    ),
    "peft.peft_model.PeftModel": "base_model",
    "peft.tuners.tuners_utils.BaseTuner": "model",
    "peft.tuners.tuners_utils.BaseTunerLayer": "base_layer",
    "peft.utils.other.AuxiliaryTrainingWrapper": "original_module",
}
# Wrappers that fix at construction which parameters' gradients they share.
_SHARING = {
    "DistributedDataParallel": "DistributedDataParallel",
    "FullyShardedDataParallel": "FullyShardedDataParallel",
    "FSDPModule": "fully_shard",
}


def unwrapped(model: nn.Module) -> Any:
    """The model inside all wrappers."""
    *_, inner = wrapper_chain(model)
    return inner


def wrapper_chain(model: nn.Module) -> Iterator[nn.Module]:
    """The model itself, what it wraps, and so on, down to the bare model."""
    yield model
    while (inner := _inner(model)) is not None:
        model = inner
        yield model


def bare_class(module: nn.Module) -> type[nn.Module]:
    """A module's class before `fully_shard` replaced it."""
    kind = type(module)
    while kind.__bases__[0].__name__ == "FSDPModule":
        kind = kind.__bases__[1]
    return kind


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """A model's parameters by their names in the bare model, without those of wrappers.

    As in `named_parameters`, a shared parameter appears once, under its first name.
    """
    return {name: parameter for name, (_, parameter) in held_parameters(model).items()}


def held_parameters(model: nn.Module) -> dict[str, tuple[nn.Module, nn.Parameter]]:
    """The same, each with the module that has it."""
    found: dict[str, tuple[nn.Module, nn.Parameter]] = {}
    seen: set[int] = set()
    for name, module, parameter in _named(model, ""):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = module, parameter
    return found


def refuse_sharing(model: nn.Module, what: str) -> None:
    """Refuse to add parameters inside a wrapper that would not share their gradients.

    Args:
        model: bare or wrapped.
        what: the addition, for the message.

    Raises:
        ZiaError: the model is in a DistributedDataParallel or FullyShardedDataParallel, or sharded
            by `fully_shard`.
    """
    for module in model.modules():
        for kind in type(module).__mro__:
            if kind.__name__ in _SHARING and kind.__module__.startswith("torch."):
                raise ZiaError(
                    f"{_SHARING[kind.__name__]} does not share the gradients of parameters that "
                    f"are added later; add {what} first and wrap the model then."
                )


def _inner(module: nn.Module) -> nn.Module | None:
    for kind in type(module).__mro__:
        attribute = _WRAPPERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if attribute is not None and isinstance(inner := getattr(module, attribute), nn.Module):
            return inner
    return None


def _named(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Module, nn.Parameter]]:
    if (inner := _inner(module)) is not None:
        yield from _named(inner, prefix)
        return
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + name, module, parameter
    for name, child in module._modules.items():
        if child is not None:
            yield from _named(child, f"{prefix}{name}.")
