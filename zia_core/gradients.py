"""The gradients of one optimiser step: its examples cut into micro-batches, scaled and added up."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from zia_core.batching import examples_of_step, fixed_micro_batches, token_micro_batches
from zia_core.errors import ZiaError
from zia_core.feed import Feed
from zia_core.padding import padding_known
from zia_core.ranks import Ranks
from zia_core.training import TrainSettings, TrainTask


@dataclass(frozen=True)
class StepPlan:
    """What one optimiser step is made of; a function of the settings and the data.

    Attributes:
        indices: the step's examples, on all ranks together.
        labels: theirs; what a sum of losses is divided by, so that the ranks' gradients are to be
            added up, not averaged. Known in advance, so that each micro-batch can be scaled and
            let go before the next.
        micro_batches: this rank's, perhaps none.
        count: micro-batches that the ranks have together.
    """

    indices: Sequence[int]
    labels: int
    micro_batches: Sequence[Sequence[int]]
    count: int


@dataclass
class Losses:
    """What the micro-batches of a step gave, on the device: a scalar each.

    `labels` are those that a task counts on the device; `counted` is the sum of the others.
    """

    sums: list[Tensor] = field(default_factory=list)
    labels: list[Tensor] = field(default_factory=list)
    counted: int = 0


def plan_step(task: TrainTask, settings: TrainSettings, step: int, ranks: Ranks) -> StepPlan:
    """The plan of a step, which counts from 0."""
    indices = examples_of_step(len(task), settings.batch_size, settings.seed, step)
    labels = sum(task.labels(index) for index in indices)
    return StepPlan(indices, labels, *_micro_batches(task, settings, indices, ranks))


def accumulate_gradients(
    model: nn.Module,
    task: TrainTask,
    settings: TrainSettings,
    plan: StepPlan,
    feed: Feed,
    where: Callable[[Sequence[int]], str],
) -> Losses:
    """Add the gradients of this rank's share of a step, without waiting for any of them.

    `where` names the step and examples in errors.

    Raises:
        ZiaError: the step has no label.
    """
    if plan.labels == 0:
        raise ZiaError(f"no label to learn from at {where(plan.indices)}")
    found = Losses()
    for position, members in enumerate(plan.micro_batches):
        fed = feed.take(members)
        with autocast(settings), padding_known(fed.paddings):
            loss, labels = task.loss(model, fed.batch)
        # A micro-batch without labels has a sum of 0, and the mean 0.
        by_label = settings.loss_reduction == "step_labels"
        own = sum(task.labels(index) for index in members)
        (loss / (plan.labels if by_label else max(own, 1) * plan.count)).backward()
        found.sums.append(loss.detach())
        if isinstance(labels, Tensor):
            found.labels.append(labels)
        else:
            found.counted += labels
        for following in plan.micro_batches[position + 1 : position + 2]:
            feed.ahead(following)
    return found


def autocast(settings: TrainSettings) -> torch.autocast:
    """The context of a forward pass at the settings' precision."""
    enabled = settings.precision == "bf16-autocast"
    return torch.autocast(torch.device(settings.device).type, torch.bfloat16, enabled=enabled)


def _micro_batches(
    task: TrainTask, settings: TrainSettings, indices: Sequence[int], ranks: Ranks
) -> tuple[Sequence[Sequence[int]], int]:
    """This rank's micro-batches, perhaps none, and how many the ranks have together.

    A fixed cut is the same for any number of ranks. Cut by length, the examples are dealt out
    first, longest first, since the budget is what one device can hold; there the number of
    micro-batches is not asked for, and is this rank's.
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
