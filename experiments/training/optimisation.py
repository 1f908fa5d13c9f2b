"""The optimisation settings that every experiment has, and the engine's settings from them."""

import math
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    import torch

    from zia_core.training import TrainSettings


@dataclass(frozen=True)
class Optimisation:
    """AdamW on a cosine schedule; an experiment's settings inherit these.

    The defaults are those of the paper's training code, where it has them.
    """

    batch_size: int = 64
    epochs: float = 5.0
    warmup_epochs: float = 2.0
    peak_lr: float | None = None  # None: the run chooses it
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
    precision: Literal["fp32", "bf16", "bf16-autocast", "nf4"] = "bf16"
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
    """The engine's settings for a training set of so many examples.

    Args:
        settings: with a peak rate and a weight decay.
        seed: of the run.
        examples: of the training set.
        checkpoints: about how many a run writes; there is one every 500 steps at least.
        rates: factors of the rate by module, see `TrainSettings`.
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
    """The multiple of tokens that training batches are padded to: compiled blocks want few shapes.

    Batches of up to 512 tokens then have one of eight widths. Padding is masked.
    """
    return 64 if settings.compile else 1


def set_threads(settings: Optimisation) -> None:
    """Give torch the threads of the settings, if the run is on a CPU."""
    import torch

    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)


def weights_dtype(settings: Optimisation) -> "torch.dtype":
    """The precision of the frozen weights that are not in 4 bits; trained ones are float32."""
    import torch

    in_half = settings.precision == "bf16" or (
        settings.precision == "nf4" and settings.device == "cuda"
    )
    return torch.bfloat16 if in_half else torch.float32


def in_four_bits(settings: Optimisation) -> bool:
    """Whether the frozen backbone's linear layers are in 4 bits [ours]: NF4, QLoRA's choice."""
    return settings.precision == "nf4"


def autocast(settings: Optimisation) -> AbstractContextManager[Any]:
    """The precision a model was trained in, for evaluating it."""
    import torch

    if settings.precision != "bf16-autocast":
        return nullcontext()
    return torch.autocast(settings.device, torch.bfloat16)
