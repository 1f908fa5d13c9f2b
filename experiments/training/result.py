"""The fields of result.json about the training."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from experiments.harness import stored
from experiments.training.method_training import TrainedModel

FIELDS: Mapping[str, Any] = {
    "tuned_parameters": int,  # the task head included
    "head_parameters": int,
    "adapter_bytes": int,
    "adapter_sha256": str | None,
    "steps": int,
    "train_seconds": float,  # of the optimiser steps
    "peak_memory_bytes": int | None,  # of training
    "train_loss_first": float | None,  # mean over the first tenth of the steps
    "train_loss_last": float | None,  # mean over the last tenth
}


def loss_ends(losses: Sequence[float]) -> tuple[float | None, float | None]:
    """The means over the first and the last tenth of the steps, at least one step each."""
    if not losses:
        return None, None
    tenth = max(1, len(losses) // 10)
    return sum(losses[:tenth]) / tenth, sum(losses[-tenth:]) / tenth


def training_result(trained: TrainedModel) -> dict[str, Any]:
    """`FIELDS` of a trained model."""
    from zia_core.baselines import tuned_parameters
    from zia_core.head import trained_head

    summary, adapter = trained.summary, trained.adapter
    records = stored.metrics(trained.folder.path)
    first, last = loss_ends([record["loss"] for record in records if "loss" in record])
    return {
        "tuned_parameters": tuned_parameters(trained.model),
        "head_parameters": sum(p.numel() for p in trained_head(trained.model).values()),
        "adapter_bytes": len(adapter),
        "adapter_sha256": hashlib.sha256(adapter).hexdigest() if adapter else None,
        "steps": summary.steps,
        "train_seconds": summary.seconds,
        "peak_memory_bytes": summary.peak_memory_bytes or None,
        "train_loss_first": first,
        "train_loss_last": last,
    }
