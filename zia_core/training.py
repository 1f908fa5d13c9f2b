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

    Attributes:
        total_steps: 0 only evaluates the model, once.
        batch_size: examples of one optimiser step, on all ranks.
        peak_lr: learning rate at the end of the warm-up; see `zia_core.optim.learning_rate`.
        warmup_steps: of the linear warm-up from 0.
        min_lr: learning rate at the end.
        weight_decay: of AdamW.
        decay: which parameters decay; see `zia_core.optim.parameter_groups`.
        rates: learning-rate factors by module name, 1 if not listed.
        betas: of AdamW.
        eps: of AdamW.
        clip_norm: largest gradient norm; None records the norm and does not clip.
        precision: "bf16": the frozen backbone is in bfloat16. "bf16-autocast": all weights are in
            float32 and torch.autocast picks the operations. "nf4": the frozen backbone is in 4
            bits, see `zia_core.four_bit`. Trained parameters are always float32.
        loss_reduction: "step_labels": mean over all labels of the step, however it is split into
            micro-batches. "micro_batch_mean": mean of the micro-batches' means, as in the released
            code; needs `micro_batch_size`.
        token_budget: most padded tokens of a micro-batch, which then groups examples by length.
            Exactly one of this and `micro_batch_size` is set.
        micro_batch_size: examples of a micro-batch, in shuffled order.
        overhead_tokens: with a `token_budget`, the fixed cost of a micro-batch, in tokens. Raise it
            if launching operations is slow: fewer micro-batches, more padding.
        checkpoint_activations: recompute blocks in the backward pass: less memory, more time, the
            same numbers.
        compile: compile blocks for passes with a gradient. Kernels round differently: relative to
            plain ones, losses are within 1e-5 in float32 and 2e-2 in bfloat16.
        eval_every: steps between evaluations; 0: only before the first and after the last.
        checkpoint_every: steps between checkpoints; 0: only after the last.
        seed: of the order of examples and of all random generators.
        device: "cpu" or "cuda".

    Raises:
        ZiaError: both or none of `token_budget` and `micro_batch_size`, or a warm-up longer than
            the training.
    """

    total_steps: int
    batch_size: int
    peak_lr: float
    warmup_steps: int
    min_lr: float = 0.0
    weight_decay: float
    decay: Decay = "all"
    rates: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip_norm: float | None = None
    precision: Literal["fp32", "bf16", "bf16-autocast", "nf4"] = "fp32"
    loss_reduction: Literal["step_labels", "micro_batch_mean"] = "step_labels"
    token_budget: int | None = None
    micro_batch_size: int | None = None
    overhead_tokens: int = OVERHEAD_TOKENS
    checkpoint_activations: bool = False
    compile: bool = False
    eval_every: int
    checkpoint_every: int
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
    """The examples of a training split, their loss, and the evaluation; to be implemented."""

    def __len__(self) -> int:
        """Number of training examples."""

    def length(self, index: int) -> int:
        """The number of tokens of an example, without padding."""

    def labels(self, index: int) -> int:
        """The number of labels of an example, as `loss` will count them."""

    def record_id(self, index: int) -> str:
        """What the data set calls an example; for error messages."""

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
    """Stores a run's records and checkpoints; to be implemented.

    A method that is not overridden does nothing. Every record has a "step". `metrics` records are a
    function of settings and data; anything that depends on the clock or the machine goes to
    `timing`.
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
    """Summary of a training run over all its attempts; steps repeated after a crash count once.

    Attributes:
        steps: optimiser steps.
        first_loss: mean loss per label of the first step.
        last_loss: of the last step.
        first_evaluation: metrics before the first step.
        last_evaluation: metrics after the last step.
        seconds: of optimiser steps, without evaluations and checkpoints.
        tokens: without padding.
        peak_memory_bytes: on a GPU allocated by torch; on a CPU the process's resident set.
    """

    steps: int = 0
    first_loss: float | None = None
    last_loss: float | None = None
    first_evaluation: dict[str, float] = field(default_factory=dict)
    last_evaluation: dict[str, float] = field(default_factory=dict)
    seconds: float = 0.0
    tokens: int = 0
    peak_memory_bytes: int = 0


class NonFiniteLoss(ZiaError):  # noqa: N818 - named as the guard it is
    """The loss or gradient is NaN or infinite; parameters are as before the step."""


class Interrupted(Exception):  # noqa: N818 - an outcome, not an error
    """The run stopped between two steps, on request and with a checkpoint.

    Attributes:
        reason: what `Journal.stop_requested` said.
        step: the last step that was made.
    """

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(f"{reason} (stopped after step {step})")
        self.reason = reason
        self.step = step
