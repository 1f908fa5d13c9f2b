"""Settings of an optimisation that every experiment has, and what the engine makes of them."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from zia_core.training import TrainSettings


@dataclass(frozen=True)
class Optimisation:
    """AdamW on a cosine schedule. An experiment's settings inherit these, with its own defaults.

    The defaults are those of the paper's training code where that has them.
    """

    batch_size: int = 64
    epochs: float = 5.0
    warmup_epochs: float = 2.0
    peak_lr: float | None = None  # None: not given here; the run finds it
    min_lr: float = 0.0
    weight_decay: float | None = 0.02
    decay: Literal["all", "matrices", "none"] = "all"
    beta1: float = 0.9
    beta2: float = 0.95
    clip_norm: float | None = None
    loss_reduction: Literal["step_labels", "micro_batch_mean"] = "step_labels"
    token_budget: int | None = None  # padded tokens of a micro-batch
    micro_batch_size: int | None = None  # or its examples
    overhead_tokens: int = 64  # as of `TrainSettings`
    evaluations: int = 5  # evenly spaced, besides that at step 0; 0: only that and the last

    # The machine, as far as it changes numbers.
    device: Literal["cpu", "cuda"] = "cuda"
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "bf16"
    threads: int = 1  # of torch on the CPU; a sum over threads is a sum in another order
    checkpoint_activations: bool = False  # as of `TrainSettings`, like the next
    compile: bool = False


def train_settings(
    settings: Optimisation,
    seed: int,
    examples: int,
    checkpoints: int = 10,
    rates: Mapping[str, float] | None = None,
) -> "TrainSettings":
    """The engine's settings for a training set of `examples`.

    `rates` are as of the engine. Of checkpoints there are about `checkpoints` a run, and at least
    one in 500 steps.
    """
    from zia_core.batching import steps_per_epoch
    from zia_core.training import TrainSettings

    s = settings
    assert s.peak_lr is not None
    assert s.weight_decay is not None
    per_epoch = steps_per_epoch(examples, s.batch_size)
    total = round(s.epochs * per_epoch)
    return TrainSettings(
        total_steps=total,
        batch_size=s.batch_size,
        peak_lr=s.peak_lr,
        warmup_steps=round(s.warmup_epochs * per_epoch),
        min_lr=s.min_lr,
        weight_decay=s.weight_decay,
        decay=s.decay,
        rates=rates or {},
        betas=(s.beta1, s.beta2),
        clip_norm=s.clip_norm,
        precision=s.precision,
        loss_reduction=s.loss_reduction,
        token_budget=s.token_budget,
        micro_batch_size=s.micro_batch_size,
        overhead_tokens=s.overhead_tokens,
        checkpoint_activations=s.checkpoint_activations,
        compile=s.compile,
        eval_every=math.ceil(total / s.evaluations) if s.evaluations else 0,
        checkpoint_every=max(1, min(500, total // checkpoints)),
        seed=seed,
        device=s.device,
    )


def bucket(settings: Optimisation) -> int:
    """What a training batch's tokens are padded to a multiple of: compiled blocks want few shapes.

    A batch of 512 tokens at most has one of eight widths then; what is padded is masked.
    """
    return 64 if settings.compile else 1


def autocast(settings: Optimisation) -> AbstractContextManager[Any]:
    """The precision that a model was trained in, for what is computed after the training."""
    import torch

    if settings.precision != "bf16-autocast":
        return nullcontext()
    return torch.autocast(settings.device, torch.bfloat16)
