"""What the training engine is given, what it calls, and what it gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol

from torch import Tensor, nn

from zia_core.batching import OVERHEAD_TOKENS
from zia_core.errors import ZiaError
from zia_core.optim import Decay


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """Everything about the optimisation that can change a number.

    Steps are optimiser steps, counted from 1 once done; an evaluation or a checkpoint "at step s"
    happens after s of them.
    """

    total_steps: int  # 0 trains nothing and evaluates once: the frozen backbone
    batch_size: int  # examples of one optimiser step
    peak_lr: float
    warmup_steps: int
    min_lr: float = 0.0
    weight_decay: float
    decay: Decay = "all"
    # Shares of the rate that modules of these names go at, where not 1.
    rates: Mapping[str, float] = field(default_factory=dict)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = 1e-8
    clip_norm: float | None = None  # None: the norm is recorded, nothing is clipped
    # "bf16": the frozen backbone was loaded in bfloat16; "bf16-autocast": all weights are float32
    # and torch.autocast picks the operations. What is trained is float32 in all three.
    precision: Literal["fp32", "bf16", "bf16-autocast"] = "fp32"
    # "step_labels": the mean over all labels of the step, however it is cut into micro-batches;
    # "micro_batch_mean": the mean of the micro-batches' means, as the released code has it.
    loss_reduction: Literal["step_labels", "micro_batch_mean"] = "step_labels"
    token_budget: int | None = None  # padded tokens of a micro-batch, cut by length; or else
    micro_batch_size: int | None = None  # examples of a micro-batch, cut in shuffled order
    # With a token_budget: what a micro-batch costs besides its tokens, in tokens. More where it
    # takes long to launch a model's operations: fewer micro-batches, and more padding.
    overhead_tokens: int = OVERHEAD_TOKENS
    # Less memory for more time: blocks are run again in the backward pass. The same numbers.
    checkpoint_activations: bool = False
    # Blocks are compiled for passes with a gradient. Other kernels round in another order: losses
    # are within 1e-5 of the plain ones in float32, relative, and 2e-2 in bfloat16.
    compile: bool = False
    eval_every: int  # steps; 0: only before the first and after the last
    checkpoint_every: int  # steps; 0: only after the last
    seed: int
    device: str

    def __post_init__(self) -> None:
        """Refuse combinations that have no meaning, in a sentence."""
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
    """The examples of a training split, the loss on them, and the evaluation beside it."""

    def __len__(self) -> int:
        """Number of training examples."""

    def length(self, index: int) -> int:
        """Tokens of an example, without padding."""

    def labels(self, index: int) -> int:
        """Labels of an example: what `loss` will count for it."""

    def record_id(self, index: int) -> str:
        """How the data set names an example."""

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The examples as padded CPU tensors; the engine moves them to the device.

        Padding masks [B, T] have names that end in "attention_mask".
        """

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int | Tensor]:
        """Sum of the batch's losses and the number of labels in it.

        The sum is a scalar, and so is the number where it is counted on the device. Nothing here is
        to be read from there: no `item()`, no choice of rows by a mask.
        """

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Metrics of the validation split; the model is in eval mode and autograd is off."""


class Journal(Protocol):
    """Where a run is written down.

    Every record has a "step". `metrics` records are a function of the settings and the data;
    whatever depends on the clock or the machine goes to `timing`.
    """

    def metrics(self, record: dict[str, Any]) -> None:
        """Append a record of a step, or of an evaluation.

        An evaluation is `{"step": s, "eval": {...}}`; where the model has gates it also has
        "gates": a(g) of every head by layer.
        """

    def timing(self, record: dict[str, Any]) -> None:
        """Append seconds, tokens, tokens per second and peak memory of a step."""

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        """Keep a checkpoint; every record of steps up to `step` was appended before."""

    def load_checkpoint(self) -> tuple[int, Mapping[str, Tensor], Mapping[str, Any]] | None:
        """The newest valid checkpoint; None if there is none.

        Records of later steps are cut off (without a checkpoint: all records), because those
        steps are made again.
        """

    def stop_requested(self) -> str | None:
        """Why the run is to stop at the next step boundary; None to go on."""

    def progress(self, **fields: Any) -> None:
        """Show step, total, loss, lr, tokens_per_s and eta_s to whoever is watching."""


@dataclass(frozen=True)
class TrainSummary:
    """What a training run amounts to, over all its attempts; losses are means per label.

    `seconds` is the time of the optimiser steps alone, without evaluations and checkpoints;
    steps that were lost in a crash and made again count once.
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
    """The loss or the gradient became NaN or infinite; the parameters are those before the step."""


class Interrupted(Exception):  # noqa: N818 - an outcome, not an error
    """The run was asked to stop, and stopped between two steps with a checkpoint."""

    def __init__(self, reason: str, step: int) -> None:
        super().__init__(f"{reason} (stopped after step {step})")
        self.reason = reason
        self.step = step
