"""States of an Accelerator that hold only the adapter."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from zia_core.adapters import load_adapter, save_adapter
from zia_core.errors import ZiaError

__all__ = ["adapter_states"]


def adapter_states(accelerator: Any) -> None:
    """Make an Accelerator's `save_state` write the adapter alone, on the main process.

    `load_state` then loads it, with the states of optimiser, schedule and random generators.
    `load_adapter` reads the folder too. Of several models, each adapter has a folder: `adapter_0`.

    Args:
        accelerator: an `accelerate.Accelerator`, before its first `save_state`.

    Raises:
        ZiaError: it shards models with FSDP or DeepSpeed, which save weights themselves; from
            `save_state` and `load_state`, what `save_adapter` and `load_adapter` raise.
    """
    if accelerator.distributed_type.value in ("FSDP", "DEEPSPEED", "MEGATRON_LM"):
        raise ZiaError(
            f"An Accelerator with {accelerator.distributed_type.value} saves weights itself; call "
            "save_adapter on every process instead."
        )

    def save(models: list[nn.Module], weights: list[Any], folder: str) -> None:
        weights.clear()
        if accelerator.is_main_process:
            for number, model in enumerate(models):
                save_adapter(model, _folder(folder, number, len(models)))

    def load(models: list[nn.Module], folder: str) -> None:
        for number, model in enumerate(models):
            load_adapter(model, _folder(folder, number, len(models)))
        models.clear()

    accelerator.register_save_state_pre_hook(save)
    accelerator.register_load_state_pre_hook(load)


def _folder(folder: str, number: int, models: int) -> Path:
    return Path(folder) if models == 1 else Path(folder, f"adapter_{number}")
