"""The training loop: one for every experiment.

One pass of the loop is: step, its record, an evaluation if due, a checkpoint if due. A checkpoint
at step s is therefore written after every record of steps up to s and before any later one, so
cutting the records back to s and going on repeats nothing and loses nothing. On a CPU, in float32
and with the same number of threads, a resumed run is bitwise the uninterrupted one.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import asdict, replace

import torch
from torch import nn
from torch.nn import Parameter
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from zia_core.batching import (
    examples_of_step,
    fixed_micro_batches,
    steps_per_epoch,
    token_micro_batches,
)
from zia_core.errors import ZiaError
from zia_core.memory import peak_memory_bytes, reset_peak_memory
from zia_core.optim import learning_rate, parameter_groups
from zia_core.rng import derived_seed, isolated_rng, seed_everything
from zia_core.training import (
    Interrupted,
    Journal,
    NonFiniteLoss,
    TrainSettings,
    TrainSummary,
    TrainTask,
)
from zia_core.training_state import restore_training, training_tensors

__all__ = [
    "Interrupted",
    "Journal",
    "NonFiniteLoss",
    "TrainSettings",
    "TrainSummary",
    "TrainTask",
    "train",
]

_RECORDS_SHOWN = 16


def train(
    model: nn.Module, task: TrainTask, settings: TrainSettings, journal: Journal
) -> TrainSummary:
    """Train the parameters of `model` that require a gradient; go on where `journal` left off.

    The model is on `settings.device`, and comes back in the train or eval mode it came in. The
    global random generators are seeded at the first step and restored on resume, so that what
    follows the training draws the same numbers either way.

    Raises:
        Interrupted: `journal.stop_requested()` gave a reason; a checkpoint was saved.
        NonFiniteLoss: a loss or gradient is NaN or infinite; nothing was stepped.
        ZiaError: the checkpoint is another model's, the precision is not what the settings say,
            or the data do not fill a batch.
    """
    was_training = model.training
    model.train()
    try:
        return _Training(model, task, settings, journal).run()
    finally:
        model.train(was_training)


class _Training:
    def __init__(
        self, model: nn.Module, task: TrainTask, settings: TrainSettings, journal: Journal
    ) -> None:
        self.model, self.task, self.settings, self.journal = model, task, settings, journal
        self.device = torch.device(settings.device)
        self.parameters = _trainable_parameters(model, settings)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(self.parameters.items(), settings.weight_decay, settings.decay)
            or [{"params": []}],
            betas=settings.betas,
            eps=settings.eps,
        )
        self.so_far = TrainSummary()

    def run(self) -> TrainSummary:
        settings, journal = self.settings, self.journal
        reset_peak_memory(self.device)
        saved_at = self._resume()
        if saved_at is None:
            seed_everything(derived_seed(settings.seed, "train"))
            self._evaluate()
        while self.so_far.steps < settings.total_steps:
            if reason := journal.stop_requested():
                if saved_at != self.so_far.steps:
                    self._save()
                raise Interrupted(reason, self.so_far.steps)
            self._step()
            if self._is_due(settings.eval_every):
                self._evaluate()
            if self._is_due(settings.checkpoint_every):
                self._save()
                saved_at = self.so_far.steps
        return self.so_far

    def _is_due(self, every: int) -> bool:
        step = self.so_far.steps
        return step == self.settings.total_steps or (every > 0 and step % every == 0)

    def _step(self) -> None:
        """One optimiser step and its records."""
        settings, task, so_far = self.settings, self.task, self.so_far
        started = time.perf_counter()
        indices = examples_of_step(len(task), settings.batch_size, settings.seed, so_far.steps)
        lr = learning_rate(
            so_far.steps,
            peak=settings.peak_lr,
            warmup_steps=settings.warmup_steps,
            total_steps=settings.total_steps,
            minimum=settings.min_lr,
        )
        loss, labels = self._accumulate_gradients(indices)
        grad_norm = self._clip_gradients(indices)
        for group in self.optimizer.param_groups:
            group["lr"] = lr
        self.optimizer.step()
        self.optimizer.zero_grad()

        step = so_far.steps + 1
        seconds = time.perf_counter() - started
        tokens = sum(task.length(index) for index in indices)
        peak_memory = peak_memory_bytes(self.device)
        self.so_far = replace(
            so_far,
            steps=step,
            first_loss=loss if so_far.first_loss is None else so_far.first_loss,
            last_loss=loss,
            seconds=so_far.seconds + seconds,
            tokens=so_far.tokens + tokens,
            peak_memory_bytes=max(so_far.peak_memory_bytes, peak_memory),
        )
        self.journal.metrics(
            {
                "step": step,
                "epoch": step / steps_per_epoch(len(task), settings.batch_size),
                "loss": loss,
                "lr": lr,
                "grad_norm": grad_norm,
                "labels": labels,
            }
        )
        self.journal.timing(
            {
                "step": step,
                "seconds": seconds,
                "tokens": tokens,
                "tokens_per_s": tokens / seconds,
                "peak_memory_bytes": peak_memory,
            }
        )
        self.journal.progress(
            step=step,
            total=settings.total_steps,
            loss=loss,
            lr=lr,
            tokens_per_s=tokens / seconds,
            eta_s=self.so_far.seconds / step * (settings.total_steps - step),
        )

    def _accumulate_gradients(self, indices: Sequence[int]) -> tuple[float, int]:
        """Add up the step's gradients; return its mean loss per label and the number of labels."""
        settings, task = self.settings, self.task
        if settings.token_budget is not None:
            lengths = [task.length(index) for index in indices]
            groups = token_micro_batches(lengths, settings.token_budget)
        else:
            assert settings.micro_batch_size is not None
            groups = fixed_micro_batches(len(indices), settings.micro_batch_size)

        # Known in advance, so that each micro-batch can be scaled and let go before the next.
        step_labels = sum(task.labels(index) for index in indices)
        if step_labels == 0:
            raise ZiaError(f"no label to learn from at {self._where(indices)}")
        loss_sum, labels = 0.0, 0
        for group in groups:
            members = [indices[position] for position in group]
            batch = {name: value.to(self.device) for name, value in task.batch(members).items()}
            with self._autocast():
                loss, n = task.loss(self.model, batch)
            value = loss.item()
            if not math.isfinite(value):
                raise NonFiniteLoss(f"the loss is {value} at {self._where(members)}")
            if settings.loss_reduction == "step_labels":
                divisor = step_labels
            else:  # a micro-batch without labels has a sum of 0, and the mean 0
                divisor = max(n, 1) * len(groups)
            (loss / divisor).backward()
            loss_sum, labels = loss_sum + value, labels + n
        if labels != step_labels:
            raise ZiaError(
                f"the loss counts {labels} labels where the task says {step_labels}, "
                f"at {self._where(indices)}"
            )
        return loss_sum / labels, labels

    def _clip_gradients(self, indices: Sequence[int]) -> float:
        """The global norm of the gradients, before clipping if the settings ask for it."""
        norm = get_total_norm(p.grad for p in self.parameters.values() if p.grad is not None)
        value = norm.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the gradient norm is {value} at {self._where(indices)}")
        if self.settings.clip_norm is not None:
            clip_grads_with_norm_(self.parameters.values(), self.settings.clip_norm, norm)
        return value

    def _evaluate(self) -> None:
        """Evaluate and record; the training that follows is the same as without it."""
        self.model.eval()
        with isolated_rng(), torch.no_grad(), self._autocast():
            evaluation = self.task.evaluate(self.model)
        self.model.train()
        step = self.so_far.steps
        for name, value in evaluation.items():
            if not math.isfinite(value):
                raise ZiaError(f"the evaluation after step {step} gives {name} = {value}")
        self.so_far = replace(
            self.so_far,
            first_evaluation=self.so_far.first_evaluation or evaluation,
            last_evaluation=evaluation,
        )
        self.journal.metrics({"step": step, "eval": evaluation})

    def _save(self) -> None:
        tensors = training_tensors(self.parameters, self.optimizer)
        self.journal.save_checkpoint(self.so_far.steps, tensors, asdict(self.so_far))

    def _resume(self) -> int | None:
        """Take up the journal's checkpoint; return its step, or None if there is none."""
        loaded = self.journal.load_checkpoint()
        if loaded is None:
            return None
        step, tensors, state = loaded
        restore_training(tensors, self.parameters, self.optimizer)
        self.so_far = TrainSummary(**state)
        return step

    def _autocast(self) -> torch.autocast:
        enabled = self.settings.precision == "bf16-autocast"
        return torch.autocast(self.device.type, torch.bfloat16, enabled=enabled)

    def _where(self, indices: Sequence[int]) -> str:
        ids = [self.task.record_id(index) for index in indices[:_RECORDS_SHOWN]]
        more = f" and {len(indices) - len(ids)} more" if len(indices) > len(ids) else ""
        return f"step {self.so_far.steps + 1}, records {', '.join(ids)}{more}"


def _trainable_parameters(model: nn.Module, settings: TrainSettings) -> dict[str, Parameter]:
    """The named parameters to train; the model's dtypes are what the settings' precision says."""
    trainable = {name: p for name, p in model.named_parameters() if p.requires_grad}
    if settings.total_steps > 0 and not trainable:
        raise ZiaError("the model has no parameter that requires a gradient")
    for name, parameter in trainable.items():
        if parameter.dtype.itemsize < 4:
            raise ZiaError(f"{name} is trained in {parameter.dtype}: convert it to float32 first")
    found = {p.dtype for p in model.parameters() if p.is_floating_point() and p.itemsize < 4}
    if found != ({torch.bfloat16} if settings.precision == "bf16" else set()):
        dtypes = ", ".join(sorted({str(p.dtype) for p in model.parameters()}))
        raise ZiaError(f"precision={settings.precision} does not fit a model in {dtypes}")
    return trainable
