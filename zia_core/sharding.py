"""Full fine-tuning over several processes, with everything in shards (torch's FSDP2).

Every rank holds its part of the weights, gradients and AdamW's moments, all in float32. A block's
weights are gathered for its forward and backward pass, in bfloat16 if asked to.
`zia_core.engine.train` sees from the model that it is sharded.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, distributed, nn
from torch.nn import Parameter
from torch.optim import Optimizer

from zia_core.attachment import Model, zero_init_layers
from zia_core.blocks import repeated_blocks
from zia_core.errors import ZiaError
from zia_core.training_state import optimizer_tensors, refuse_other_model

__all__ = ["shard"]

KEPT = 2  # checkpoints, as journals do


def shard(model: Model, precision: Literal["fp32", "bf16-autocast"] = "fp32") -> Model:
    """Shard a float32 model over all ranks, in place, block by block.

    Gradients are summed over the ranks and not averaged, as `zia_core.engine.train` needs.

    Args:
        model: with repeated blocks, the same on every rank and on its device.
        precision: as in `TrainSettings`. "bf16-autocast" gathers weights in bfloat16, and sums
            gradients in float32.

    Returns:
        The same model.

    Raises:
        ZiaError: no process group, no repeated blocks, weights that are not float32, a head that
            is also the word embedding, or zero-init attention, which trains data-parallel.
    """
    from torch.distributed.fsdp import FSDPModule, MixedPrecisionPolicy, fully_shard

    if not (distributed.is_available() and distributed.is_initialized()):
        raise ZiaError("A model is sharded over the processes of a group; start them by torchrun.")
    if zero_init_layers(model):
        raise ZiaError("An adapter is small: train it data-parallel, without sharding the model.")
    if wrong := {p.dtype for p in model.parameters()} - {torch.float32}:
        raise ZiaError(f"Sharded training keeps weights in float32, and some are {wrong.pop()}.")
    compute = torch.bfloat16 if precision == "bf16-autocast" else None
    policy = MixedPrecisionPolicy(param_dtype=compute, reduce_dtype=torch.float32)
    # The losses call trunk and head and not the model, so each gathers its own weights.
    own: list[nn.Module] = [model] if any(True for _ in model.parameters(recurse=False)) else []
    trunk_and_head = [child for child in model.children() if _has_parameters(child)]
    if _shared_by(trunk_and_head):
        raise ZiaError(
            f"The head of this {type(model).__name__} is its word embedding, which cannot be "
            "sharded twice; take a model with its own head (tie_word_embeddings=False)."
        )
    parts: list[nn.Module] = [*repeated_blocks(model), *trunk_and_head, *own]
    for part in parts:
        fully_shard(part, mp_policy=policy)
    for module in model.modules():
        if isinstance(module, FSDPModule):
            module.set_gradient_divide_factor(1.0)
            module.set_force_sum_reduction_for_comms(True)  # gloo has no scaled sum
    return model


def is_sharded(model: nn.Module) -> bool:
    """Whether `shard` or torch's `fully_shard` was called on the model."""
    return any(_gathers(module) for module in model.modules())


def gather(model: Any) -> None:
    """Gather all weights for good, in the precision of the passes; every rank must call this.

    Each rank then has the whole model, to evaluate by itself and not to train.
    """
    for module in model.modules():
        if _gathers(module):
            module.set_reshard_after_forward(False, recurse=False)
            module.unshard()


def reshard(model: Any) -> None:
    """Free gathered weights, which a pass without a backward pass leaves in place."""
    for module in model.modules():
        if _gathers(module):
            module.reshard()


def _gathers(module: nn.Module) -> bool:
    """Whether the module gathers weights of its own."""
    return any(base.__name__ == "FSDPModule" for base in type(module).__mro__)


def whole(tensor: Tensor) -> Tensor:
    """The tensor itself, or all of it if it is sharded; every rank must call this."""
    gather: Any = getattr(tensor, "full_tensor", None)
    return tensor if gather is None else gather()


def _has_parameters(child: nn.Module) -> bool:
    """Whether it has parameters, and a forward pass for which to gather them."""
    container = isinstance(child, nn.ModuleList | nn.ModuleDict)
    return not container and any(True for _ in child.parameters())


def _shared_by(parts: list[nn.Module]) -> bool:
    """Whether two of them have a parameter in common."""
    ids = [id(parameter) for part in parts for parameter in part.parameters()]
    return len(ids) != len(set(ids))


def save_shards(folder: Path, parameters: Mapping[str, Parameter], optimizer: Optimizer) -> None:
    """Write every rank's part to a new folder; every rank must call this.

    Raises:
        ZiaError: a part could not be written.
    """
    checkpoint: Any = import_module("torch.distributed.checkpoint")

    with _as_sentence(f"the sharded checkpoint {folder} cannot be written"):
        checkpoint.save(_state(parameters, optimizer), checkpoint_id=folder)


def load_shards(folder: Path, parameters: Mapping[str, Parameter], optimizer: Optimizer) -> None:
    """Undo `save_shards`, also with another number of ranks; every rank must call this.

    Raises:
        ZiaError: the folder is missing or damaged, or has another model's parameters.
    """
    checkpoint: Any = import_module("torch.distributed.checkpoint")

    with _as_sentence(f"the sharded checkpoint {folder} cannot be read"):
        stored = checkpoint.FileSystemReader(folder).read_metadata().state_dict_metadata
    saved: dict[str, Any] = {
        name.removeprefix("model."): torch.empty(entry.size, device="meta")
        for name, entry in stored.items()
        if name.startswith("model.")
    }
    refuse_other_model(saved, parameters)
    for name, parameter in parameters.items():
        if f"optim.{name}.step" in stored:
            on_gpu = parameter.is_cuda  # AdamW is fused there, and counts steps on the device
            optimizer.state[parameter] = {
                "step": torch.zeros((), device=parameter.device if on_gpu else "cpu"),
                "exp_avg": torch.zeros_like(parameter, requires_grad=False),
                "exp_avg_sq": torch.zeros_like(parameter, requires_grad=False),
            }
    with _as_sentence(f"the sharded checkpoint {folder} cannot be read"):
        checkpoint.load(_state(parameters, optimizer), checkpoint_id=folder)


def make_way(folder: Path) -> None:
    """Remove what an earlier attempt at this checkpoint left, and make the folder above."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.parent.mkdir(parents=True, exist_ok=True)


def remove_old(folder: Path) -> None:
    """Remove all but the newest checkpoints up to this one, and those of later steps."""
    others = sorted(other for other in folder.parent.glob("step-*") if other.is_dir())
    kept = [other for other in others if other <= folder][-KEPT:]
    for other in others:
        if other not in kept:
            shutil.rmtree(other, ignore_errors=True)


def _state(parameters: Mapping[str, Parameter], optimizer: Optimizer) -> dict[str, Any]:
    model: Mapping[str, Tensor] = parameters
    parts = {"model": model, "optim": optimizer_tensors(optimizer, parameters)}
    return {f"{part}.{k}": v.detach() for part in parts for k, v in parts[part].items()}


@contextmanager
def _as_sentence(what: str) -> Iterator[None]:
    from torch.distributed.checkpoint.api import CheckpointException

    try:
        yield
    except (CheckpointException, OSError, ValueError, EOFError) as error:
        first = (str(error).strip() or type(error).__name__).splitlines()[-1]
        raise ZiaError(f"{what} ({first})") from error
