"""The state of a training run: what is trained, and how it becomes named tensors and back.

The state is what training changes: trainable parameters, AdamW's state and the random generators.
The frozen backbone, the order of examples and the learning rate follow from the settings.
"""

from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from zia_core.errors import ZiaError
from zia_core.four_bit import is_four_bit
from zia_core.rng import restore_rng, rng_state
from zia_core.training import TrainSettings


def training_tensors(
    parameters: Mapping[str, Parameter], optimizer: Optimizer
) -> dict[str, Tensor]:
    """The state as `model.<name>`, `optim.<name>.<entry>` and `rng.<generator>`.

    Parameters and moments are not copied: save them before the next step.
    """
    parts: dict[str, Mapping[str, Tensor]] = {
        "model": parameters,
        "optim": optimizer_tensors(optimizer, parameters),
        "rng": rng_state(),
    }
    return {f"{part}.{k}": v.detach() for part in parts for k, v in parts[part].items()}


def restore_training(
    tensors: Mapping[str, Tensor], parameters: Mapping[str, Parameter], optimizer: Optimizer
) -> None:
    """Restore parameters, optimiser and generators from `training_tensors`.

    Raises:
        ZiaError: parameter names or shapes are not the model's; nothing was changed.
    """
    saved = _part(tensors, "model")
    refuse_other_model(saved, parameters)
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(saved[name])
    restore_optimizer(optimizer, parameters, _part(tensors, "optim"))
    restore_rng(_part(tensors, "rng"))


def optimizer_tensors(
    optimizer: Optimizer, parameters: Mapping[str, Parameter]
) -> dict[str, Tensor]:
    """The optimiser's state as `<parameter name>.<entry>`, e.g. `gate.exp_avg`, `gate.step`.

    Empty before the first step, and without hyperparameters, which come from the settings.
    """
    return {
        f"{name}.{entry}": value
        for name, parameter in parameters.items()
        for entry, value in optimizer.state.get(parameter, {}).items()
    }


def restore_optimizer(
    optimizer: Optimizer, parameters: Mapping[str, Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Undo `optimizer_tensors`: the next step is that of the saved optimiser."""
    # AdamW keeps step counters on the CPU unless fused. Moments have the parameter's device and
    # memory layout, on which the order of floating-point operations may depend.
    fused = {id(p) for group in optimizer.param_groups if group["fused"] for p in group["params"]}
    for key, value in tensors.items():
        name, _, entry = key.rpartition(".")
        parameter = parameters[name]
        counts_there = id(parameter) in fused
        own = (
            value.to(parameter.device if counts_there else "cpu", copy=True)
            if entry == "step"
            else torch.empty_like(parameter, dtype=value.dtype, requires_grad=False).copy_(value)
        )
        optimizer.state[parameter][entry] = own


def refuse_other_model(saved: Mapping[str, Tensor], parameters: Mapping[str, Parameter]) -> None:
    """Raise a ZiaError if names or shapes differ, naming the first."""
    for name in sorted(saved.keys() | parameters.keys()):
        theirs, ours = (
            f"shape {tuple(held[name].shape)}" if name in held else "nothing"
            for held in (saved, parameters)
        )
        if theirs != ours:
            raise ZiaError(
                f"the checkpoint is another model's: for {name} it has {theirs}, "
                f"this model has {ours}"
            )


def _part(tensors: Mapping[str, Tensor], part: str) -> dict[str, Tensor]:
    prefix = f"{part}."
    return {k.removeprefix(prefix): v for k, v in tensors.items() if k.startswith(prefix)}


def trainable_parameters(model: nn.Module, settings: TrainSettings) -> dict[str, Parameter]:
    """The named parameters to train, after checking dtypes against the settings' precision."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if settings.total_steps > 0 and not trainable:
        raise ZiaError("the model has no parameter that requires a gradient")
    for name, parameter in trainable.items():
        if parameter.dtype.itemsize < 4:
            raise ZiaError(f"{name} is trained in {parameter.dtype}: convert it to float32 first")
    found = {p.dtype for p in model.parameters() if p.is_floating_point() and p.itemsize < 4}
    packed = is_four_bit(model)
    if settings.precision == "nf4":
        fits = packed and found <= {torch.bfloat16}
    else:
        expected = {torch.bfloat16} if settings.precision == "bf16" else set()
        fits = found == expected and not packed
    if not fits:
        dtypes = ", ".join(sorted({str(p.dtype) for p in model.parameters()}))
        raise ZiaError(f"precision={settings.precision} does not fit a model in {dtypes}")
    return trainable
