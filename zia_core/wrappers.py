"""The model under its wrappers, and its parameters' names there.

torch.compile, data parallelism, activation checkpointing and PEFT put a module around a model or
around some of its parts, with a prefix for every name inside (`_orig_mod.`, `module.`,
`base_model.model.`, `base_layer.`). What is stored for later must not depend on them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from torch import nn

from zia_core.errors import ZiaError

# By the wrapper's class, or a base class of it: the attribute that holds what is wrapped.
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
# Those that decide at their making which parameters' gradients are shared.
_SHARING = ("DistributedDataParallel", "FullyShardedDataParallel")


def unwrapped(model: nn.Module) -> Any:
    """The model itself: what `model` is without wrappers around it."""
    while (inner := _inner(model)) is not None:
        model = inner
    return model


def bare_class(module: nn.Module) -> type[nn.Module]:
    """A module's class, which `fully_shard` replaces by one of its own."""
    kind = type(module)
    while kind.__bases__[0].__name__ == "FSDPModule":
        kind = kind.__bases__[1]
    return kind


def own_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """A model's parameters by their names in the bare model, without those that wrappers add.

    As `named_parameters` does, a parameter that is shared comes once, under its first name.
    """
    found: dict[str, nn.Parameter] = {}
    seen: set[int] = set()
    for name, parameter in _named(model, ""):
        if id(parameter) not in seen:
            seen.add(id(parameter))
            found[name] = parameter
    return found


def refuse_sharing(model: nn.Module, what: str) -> None:
    """Refuse to add parameters under a wrapper that would not share their gradients.

    Args:
        model: perhaps wrapped.
        what: is to be added, for the sentence.

    Raises:
        ZiaError: it is, by DistributedDataParallel or FullyShardedDataParallel.
    """
    for module in model.modules():
        for kind in type(module).__mro__:
            if kind.__name__ in _SHARING and kind.__module__.startswith("torch."):
                raise ZiaError(
                    f"{kind.__name__} does not share the gradients of parameters that are added "
                    f"later; add {what} first and wrap the model then."
                )


def _inner(module: nn.Module) -> nn.Module | None:
    for kind in type(module).__mro__:
        attribute = _WRAPPERS.get(f"{kind.__module__}.{kind.__qualname__}")
        if attribute is not None and isinstance(inner := getattr(module, attribute), nn.Module):
            return inner
    return None


def _named(module: nn.Module, prefix: str) -> Iterator[tuple[str, nn.Parameter]]:
    if (inner := _inner(module)) is not None:
        yield from _named(inner, prefix)
        return
    for name, parameter in module._parameters.items():
        if parameter is not None:
            yield prefix + name, parameter
    for name, child in module._modules.items():
        if child is not None:
            yield from _named(child, f"{prefix}{name}.")
