"""The training loop of all experiments: deterministic, resumable, on one or several processes.

Each iteration makes a step, records it, then evaluates and checkpoints if due. A checkpoint at step
s thus follows every record up to s and precedes all later ones: truncating the records at s and
continuing repeats and loses nothing. On a CPU, in float32 and with the same number of threads, a
resumed run is bitwise the uninterrupted one.

With several processes ("ranks") in torch.distributed, each computes gradients for its share of
every batch and all step with their sum; only the first writes the journal. Losses and parameters
equal those of one process up to rounding and the random numbers of dropout.
"""

import math
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.nn.utils import clip_grads_with_norm_, get_total_norm

from zia_core.batching import steps_per_epoch
from zia_core.blocks import run_blocks
from zia_core.device_copies import read_together
from zia_core.errors import ZiaError
from zia_core.gradients import StepPlan, accumulate_gradients, autocast, plan_step
from zia_core.memory import peak_memory_bytes, reset_peak_memory
from zia_core.observe import gate_strengths
from zia_core.optim import learning_rate, parameter_groups
from zia_core.prefetch import Prefetcher
from zia_core.ranks import LostRankError, Ranks, communicating, drop_absent
from zia_core.rng import derived_seed, isolated_rng, seed_everything
from zia_core.run_checkpoints import Checkpoints
from zia_core.sharding import is_sharded, reshard, whole
from zia_core.training import (
    Interrupted,
    Journal,
    NonFiniteLoss,
    TrainSettings,
    TrainSummary,
    TrainTask,
)
from zia_core.training_state import trainable_parameters

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
    model: nn.Module,
    task: TrainTask,
    settings: TrainSettings,
    journal: Journal,
    shards: Path | None = None,
) -> TrainSummary:
    """Train the parameters of `model` that require a gradient, resuming from `journal`.

    The global random generators are seeded at the first step and restored on resume, so that code
    after training draws the same numbers either way. The model's train or eval mode is restored.

    With several ranks, every rank must call this, and returns. Only the first rank's journal is
    read and written; `stop_requested` counts on any of them.

    Args:
        model: on `settings.device`; trained parameters are float32.
        task: the examples, their loss, and the evaluation.
        settings: everything else that can change a result.
        journal: stores records and checkpoints.
        shards: a folder that all ranks share, for the checkpoints of a model that
            `zia_core.sharding.shard` sharded; the journal then gets small ones. Such a model is
            evaluated by every rank.

    Returns:
        The summary of all steps, those before a resume included.

    Raises:
        Interrupted: `journal.stop_requested()` gave a reason and a checkpoint was saved, or another
            rank is gone and the newest checkpoint has to do.
        NonFiniteLoss: a loss or gradient is NaN or infinite, and no step was made; or a number of
            an evaluation is.
        ZiaError: the checkpoint belongs to another model, the model's dtype contradicts the
            settings' precision, the data do not fill a batch, the model has no blocks to
            compile or checkpoint, or a sharded model has no folder for its checkpoints.
    """
    was_training = model.training
    model.train()
    try:
        with run_blocks(
            model, compiled=settings.compile, checkpointed=settings.checkpoint_activations
        ):
            return _Training(model, task, settings, journal, shards).run()
    finally:
        model.train(was_training)


class _Training:
    def __init__(
        self,
        model: nn.Module,
        task: TrainTask,
        settings: TrainSettings,
        journal: Journal,
        shards: Path | None,
    ) -> None:
        self.model, self.task, self.settings, self.journal = model, task, settings, journal
        self.sharded = is_sharded(model)
        if self.sharded and shards is None:
            raise ZiaError("a sharded model needs a folder for its checkpoints")
        self.device = torch.device(settings.device)
        self.ranks = Ranks.of_this_process(self.device)
        self.parameters = trainable_parameters(model, settings)
        self.optimizer = torch.optim.AdamW(
            parameter_groups(
                self.parameters.items(), settings.weight_decay, settings.decay, settings.rates
            )
            or [{"params": [], "rate": 1.0}],
            betas=settings.betas,
            eps=settings.eps,
            fused=True if self.device.type == "cuda" else None,
        )
        self.checkpoints = Checkpoints(
            self.parameters,
            self.optimizer,
            journal,
            self.ranks,
            shards if self.sharded else None,
        )
        self.prefetcher = Prefetcher(task, self.device)
        self.plans: dict[int, StepPlan] = {}
        self.so_far = TrainSummary()

    def run(self) -> TrainSummary:
        try:
            self._run()
        except LostRankError as error:
            raise Interrupted(str(error), self.so_far.steps) from error
        return self.so_far

    def _run(self) -> None:
        settings, ranks = self.settings, self.ranks
        reset_peak_memory(self.device)
        resumed = self.checkpoints.load()
        saved_at = None if resumed is None else resumed.steps
        if resumed is None:
            seed_everything(derived_seed(settings.seed, "train"))
            self._evaluate()
        else:
            self.so_far = resumed
        while self.so_far.steps < settings.total_steps:
            # A signal to any rank stops all of them at this step.
            if reason := ranks.first_text(self.journal.stop_requested() or "")[1]:
                if saved_at != self.so_far.steps:
                    self.checkpoints.save(self.so_far)
                raise Interrupted(reason, self.so_far.steps)
            record, timing = self._step()
            with ranks.failing_together():
                self._record(record, timing)
            if self._is_due(settings.eval_every):
                self._evaluate()
            if self._is_due(settings.checkpoint_every):
                self.checkpoints.save(self.so_far)
                saved_at = self.so_far.steps

    def _is_due(self, every: int) -> bool:
        step = self.so_far.steps
        return step == self.settings.total_steps or (every > 0 and step % every == 0)

    def _step(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """Make one optimiser step and return its metrics and timing records."""
        settings, task, so_far, ranks = self.settings, self.task, self.so_far, self.ranks
        started = time.perf_counter()
        if ranks.size > 1:  # checkpoints hold only the first rank's generators
            seed_everything(derived_seed(settings.seed, "step", so_far.steps, ranks.rank))
        plan = self._plan(so_far.steps)
        lr = learning_rate(
            so_far.steps,
            peak=settings.peak_lr,
            warmup_steps=settings.warmup_steps,
            total_steps=settings.total_steps,
            minimum=settings.min_lr,
        )
        with communicating() if self.sharded else ranks.failing_together():
            found = accumulate_gradients(
                self.model, task, settings, plan, self.prefetcher, self._where
            )
            self._begin_next_step()
        # A sharded model's gradients are already summed.
        present = None if self.sharded else ranks.add_gradients(self.parameters)
        with communicating():
            gradients = (p.grad for p in self.parameters.values() if p.grad is not None)
            norm = whole(get_total_norm(gradients))
        # The only point in a step where the CPU waits for a GPU.
        sums, counts, norms, ranks_with_gradient = read_together(
            [found.sums, found.labels, [norm], [] if present is None else [present]], self.device
        )
        loss_sum, labels = self._over_all_ranks(plan, sums, found.counted + int(sum(counts)))
        loss, grad_norm = loss_sum / labels, norms[0]
        if not math.isfinite(grad_norm):
            raise NonFiniteLoss(f"the gradient norm is {grad_norm} at {self._where(plan.indices)}")
        if present is not None:
            drop_absent(self.parameters, ranks_with_gradient)
        if settings.clip_norm is not None:
            clip_grads_with_norm_(self.parameters.values(), settings.clip_norm, norm)
        for group in self.optimizer.param_groups:
            group["lr"] = lr * group["rate"]
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)

        step = so_far.steps + 1
        seconds = time.perf_counter() - started
        tokens = sum(task.length(index) for index in plan.indices)
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
        record = {
            "step": step,
            "epoch": step / steps_per_epoch(len(task), settings.batch_size),
            "loss": loss,
            "lr": lr,
            "grad_norm": grad_norm,
            "labels": labels,
        }
        timing = {
            "step": step,
            "seconds": seconds,
            "tokens": tokens,
            "tokens_per_s": tokens / seconds,
            "peak_memory_bytes": peak_memory,
        }
        return record, timing

    def _record(self, record: dict[str, Any], timing: dict[str, Any]) -> None:
        if not self.ranks.is_first:
            return
        self.journal.metrics(record)
        self.journal.timing(timing)
        step, total = self.so_far.steps, self.settings.total_steps
        self.journal.progress(
            step=step,
            total=total,
            loss=record["loss"],
            lr=record["lr"],
            tokens_per_s=timing["tokens_per_s"],
            eta_s=self.so_far.seconds / step * (total - step),
        )

    def _plan(self, step: int) -> StepPlan:
        """The plan of the current step or, while that is still running, of the next."""
        if step not in self.plans:
            own = plan_step(self.task, self.settings, step, self.ranks, in_step=self.sharded)
            self.plans = {step: own}
        return self.plans[step]

    def _begin_next_step(self) -> None:
        """Start copying the next step's first micro-batch to the device."""
        step = self.so_far.steps + 1
        if step < self.settings.total_steps:
            for members in self._plan(step).micro_batches[:1]:
                self.prefetcher.prefetch(members, of_next_step=True)

    def _over_all_ranks(
        self, plan: StepPlan, sums: Sequence[float], labels: int
    ) -> tuple[float, int]:
        """The summed loss and number of labels of all ranks; if one rank raises, all raise."""
        failure, own = self._wrong_with(plan, sums, labels), 0.0
        for value in sums:  # not sum(), whose rounding changed in Python 3.12
            own += value
        loss_sum, all_labels, failures = self.ranks.sums(own, labels, failure is not None)
        if failures:
            with self.ranks.failing_together():
                if failure is not None:
                    raise failure
        return loss_sum, int(all_labels)

    def _wrong_with(self, plan: StepPlan, sums: Sequence[float], labels: int) -> ZiaError | None:
        """The reason not to step with this rank's losses, or None."""
        for members, value in zip(plan.micro_batches, sums, strict=True):
            if not math.isfinite(value):
                return NonFiniteLoss(f"the loss is {value} at {self._where(members)}")
        expected = sum(self.task.labels(i) for members in plan.micro_batches for i in members)
        if labels != expected:
            return ZiaError(
                f"the loss counts {labels} labels where the task says {expected}, at "
                f"{self._where(plan.indices)}"
            )
        return None

    def _evaluate(self) -> None:
        """Evaluate and record, without affecting the training that follows."""
        evaluation: dict[str, float] = {}
        with communicating() if self.sharded else self.ranks.failing_together():
            if self.sharded or self.ranks.is_first:
                self.model.eval()
                with isolated_rng(), torch.no_grad(), autocast(self.settings):
                    if self.sharded:  # ranks that draw different samples would wait forever
                        seed_everything(
                            derived_seed(self.settings.seed, "evaluation", self.so_far.steps)
                        )
                    evaluation = self.task.evaluate(self.model)
                reshard(self.model)
                self.model.train()
        with self.ranks.failing_together():
            if self.ranks.is_first:
                self._record_evaluation(evaluation)

    def _record_evaluation(self, evaluation: dict[str, float]) -> None:
        step = self.so_far.steps
        for name, value in evaluation.items():
            if not math.isfinite(value):
                raise NonFiniteLoss(f"the evaluation after step {step} gives {name} = {value}")
        self.so_far = replace(
            self.so_far,
            first_evaluation=self.so_far.first_evaluation or evaluation,
            last_evaluation=evaluation,
        )
        gates = gate_strengths(self.model)
        self.journal.metrics(
            {"step": step, "eval": evaluation} | ({"gates": gates} if gates else {})
        )

    def _where(self, indices: Sequence[int]) -> str:
        ids = [self.task.record_id(index) for index in indices[:_RECORDS_SHOWN]]
        more = f" and {len(indices) - len(ids)} more" if len(indices) > len(ids) else ""
        return f"step {self.so_far.steps + 1}, records {', '.join(ids)}{more}"
