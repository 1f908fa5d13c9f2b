"""Plan an optimiser step's micro-batches and accumulate their gradients."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from zia_core.batching import examples_of_step, fixed_micro_batches, token_micro_batches
from zia_core.errors import ZiaError
from zia_core.padding import padding_known
from zia_core.prefetch import Prefetcher
from zia_core.ranks import Ranks
from zia_core.training import TrainSettings, TrainTask


@dataclass(frozen=True)
class StepPlan:
    """The examples of one optimiser step; a function of the settings and the data.

    Attributes:
        indices: the step's examples on all ranks.
        labels: their number of labels. Losses are divided by it, so ranks add their gradients
            instead of averaging. Known in advance, so each micro-batch is scaled and freed before
            the next.
        micro_batches: this rank's; may be empty.
        count: micro-batches on all ranks.
        idle: passes that this rank makes without an example of its own. With a sharded model, all
            ranks make as many passes as the busiest.
    """

    indices: Sequence[int]
    labels: int
    micro_batches: Sequence[Sequence[int]]
    count: int
    idle: int = 0


@dataclass
class Losses:
    """Losses and label counts of a step's micro-batches.

    Attributes:
        sums: the summed loss of each micro-batch, scalars on the device.
        labels: label counts that the task computes on the device, scalars.
        counted: the sum of all other label counts.
    """

    sums: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    counted: int = 0


def plan_step(
    task: TrainTask, settings: TrainSettings, step: int, ranks: Ranks, *, in_step: bool = False
) -> StepPlan:
    """The plan of a step; `step` counts from 0.

    With `in_step`, every rank makes as many passes, as a sharded model needs.
    """
    indices = examples_of_step(len(task), settings.batch_size, settings.seed, step)
    labels = sum(task.labels(index) for index in indices)
    plan = StepPlan(indices, labels, *_micro_batches(task, settings, indices, ranks))
    if not in_step:
        return plan
    everybody = (Ranks(rank, ranks.size, ranks.device) for rank in range(ranks.size))
    most = max(len(_micro_batches(task, settings, indices, each)[0]) for each in everybody)
    return replace(plan, idle=most - len(plan.micro_batches))


def accumulate_gradients(
    model: nn.Module,
    task: TrainTask,
    settings: TrainSettings,
    plan: StepPlan,
    prefetcher: Prefetcher,
    where: Callable[[Sequence[int]], str],
) -> Losses:
    """Accumulate the gradients of this rank's share of a step, without waiting for the device.

    `where` names the step and examples in errors.

    Raises:
        ZiaError: the step has no label.
    """
    if plan.labels == 0:
        raise ZiaError(f"no label to learn from at {where(plan.indices)}")
    found = Losses()
    for position, members in enumerate(plan.micro_batches):
        made = prefetcher.take(members)
        with autocast(settings), padding_known(made.paddings):
            loss, labels = task.loss(model, made.batch)
        # Without labels, the sum is 0 and so is the mean.
        by_label = settings.loss_reduction == "step_labels"
        own = sum(task.labels(index) for index in members)
        (loss / (plan.labels if by_label else max(own, 1) * plan.count)).backward()
        found.sums.append(loss.detach())
        if isinstance(labels, Tensor):
            found.labels.append(labels)
        else:
            found.counted += labels
        for following in plan.micro_batches[position + 1 : position + 2]:
            prefetcher.prefetch(following)
    for _ in range(plan.idle):
        made = prefetcher.take(plan.indices[:1])
        with autocast(settings), padding_known(made.paddings):
            loss, _ = task.loss(model, made.batch)
        (loss * 0.0).backward()
    return found


def autocast(settings: TrainSettings) -> torch.autocast:
    """Autocast for forward passes at the settings' precision."""
    enabled = settings.precision == "bf16-autocast"
    return torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=enabled)


def _micro_batches(
    task: TrainTask, settings: TrainSettings, indices: Sequence[int], ranks: Ranks
) -> tuple[Sequence[Sequence[int]], int]:
    """This rank's micro-batches, possibly none, and their number on all ranks.

    A fixed split does not depend on the number of ranks. With a token budget, which is what one
    device can hold, examples are dealt out first, longest first; the number is then this rank's
    own and not used.
    """
    if settings.token_budget is None:
        assert settings.micro_batch_size is not None
        cut = fixed_micro_batches(len(indices), settings.micro_batch_size)
        everybodys = [[indices[position] for position in group] for group in cut]
        return ranks.share(everybodys), len(everybodys)
    mine = ranks.share(sorted(indices, key=lambda index: -task.length(index)))
    lengths = [task.length(index) for index in mine]
    cut = token_micro_batches(lengths, settings.token_budget, settings.overhead_tokens)
    return [[mine[position] for position in group] for group in cut], len(cut)
