"""The interface of the training engine: settings, task, journal, summary and exceptions."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from zia_core.batching import OVERHEAD_TOKENS
from zia_core.errors import ZiaError
from zia_core.optim import Decay


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """All settings of the optimisation that can change a result.

    Steps are optimiser steps, counted from 1; an evaluation or checkpoint "at step s" comes after
    s of them.
    """

    total_steps: int  # 0: only evaluate, once, the frozen backbone
    batch_size: int  # examples of one optimiser step
    peak_lr: float
    warmup_steps: int
    min_lr: float = 0.0
    weight_decay: float
    decay: Decay = "all"
    # Learning-rate factors by module name, 1 if not listed.
    rates: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip_norm: float | None = None  # None: record the norm, but do not clip
    # "bf16": the frozen backbone is in bfloat16; "bf16-autocast": all weights are in float32 and
    # torch.autocast picks the operations. Trained parameters are always float32.
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "fp32"
    # "step_labels": mean over all labels of the step, however it is split into micro-batches;
    # "micro_batch_mean": mean of the micro-batches' means, as in the released code.
    loss_reduction: Literal["step_labels", "micro_batch_mean"] = "step_labels"
    # Exactly one of these two is set.
    token_budget: int | None = None  # padded tokens of a micro-batch, grouped by length
    micro_batch_size: int | None = None  # examples of a micro-batch, in shuffled order
    # With a token_budget: fixed cost of a micro-batch, in tokens. Raise it if launching operations
    # is slow: fewer micro-batches, more padding.
    overhead_tokens: int = OVERHEAD_TOKENS
    # Recompute blocks in the backward pass: less memory, more time, the same numbers.
    checkpoint_activations: bool = False
    # Compile blocks for passes with a gradient. Kernels round differently: relative to plain ones,
    # losses are within 1e-5 in float32 and 2e-2 in bfloat16.
    compile: bool = False
    eval_every: int  # steps; 0: only before the first and after the last
    checkpoint_every: int  # steps; 0: only after the last
    seed: int
    device: str

    def __post_init__(self) -> None:
        """Refuse inconsistent settings."""
        if (self.token_budget is None) == (self.micro_batch_size is None):
            raise ZiaError("set exactly one of token_budget and micro_batch_size")
        if self.loss_reduction == "micro_batch_mean" and self.micro_batch_size is None:
            raise ZiaError("loss_reduction=micro_batch_mean needs micro_batch_size")
        if self.warmup_steps > self.total_steps:
            raise ZiaError(
                f"the warm-up of {self.warmup_steps} steps is longer than the whole training of "
                f"{self.total_steps}: shorten the warm-up or train for longer"
            )


class TrainTask(Protocol):
    """The examples of a training split, their loss, and the evaluation."""

    def __len__(self) -> int:
        """Number of training examples."""

    def length(self, index: int) -> int:
        """Tokens of an example, without padding."""

    def labels(self, index: int) -> int:
        """Labels of an example, as `loss` will count them."""

    def record_id(self, index: int) -> str:
        """The data set's name of an example."""

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The examples as padded CPU tensors; the engine moves them to the device.

        Padding masks [B, T] have names that end in "attention_mask".
        """

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int | Tensor]:
        """The sum of the batch's losses, a scalar, and its number of labels.

        The number may be a scalar on the device. This must not wait for the device: no `item()`, no
        selection of rows by a mask.
        """

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the validation split; the model is in eval mode and autograd is off."""


class Journal(Protocol):
    """Stores a run's records and checkpoints.

    Every record has a "step". `metrics` records are a function of settings and data; anything that
    depends on the clock or the machine goes to `timing`.
    """

    def metrics(self, record: dict[str, Any]) -> None:
        """Append the record of a step or an evaluation.

        An evaluation is `{"step": s, "eval": {...}}`, and has "gates", a(g) of every head by layer,
        if the model has gates.
        """

    def timing(self, record: dict[str, Any]) -> None:
        """Append seconds, tokens, tokens per second and peak memory of a step."""

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Save a checkpoint; all records of steps up to `step` have been appended."""

    def load_checkpoint(self) -> tuple[int, Mapping[str, Tensor], Mapping[str, Any]] | None:
        """The newest valid checkpoint; None if there is none.

        Truncates records of later steps (without a checkpoint, all), since those will be repeated.
        """

    def stop_requested(self) -> str | None:
        """Why the run should stop after the current step; None to continue."""

    def progress(self, **fields: Any) -> None:
        """Report step, total, loss, lr, tokens_per_s and eta_s."""


@dataclass(frozen=True)
class TrainSummary:
    """Summary of a training run over all its attempts; losses are means per label.

    `seconds` covers optimiser steps only, not evaluations and checkpoints; steps repeated after a
    crash count once.
    """

    steps: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    first_evaluation: dict[str, float] = field(default_factory=dict)
    last_evaluation: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0
    peak_memory_bytes: int = 0  # GPU: allocated by torch; CPU: resident set of the whole process


class NonFiniteLoss(ZiaError):  # noqa: N818 - named as the guard it is
    """The loss or gradient is NaN or infinite; parameters are as before the step."""


class Interrupted(Exception):  # noqa: N818 - an outcome, not an error
    """The run stopped between two steps, on request and with a checkpoint."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(f"{reason} (stopped after step {step})")
        self.reason = reason
        self.step = step
