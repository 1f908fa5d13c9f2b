"""The gradients of one optimiser step: its examples cut into micro-batches, scaled and added up."""

import math
from collections.abc import Callable, Sequence

import torch
from torch import nn

from zia_core.batching import fixed_micro_batches, token_micro_batches
from zia_core.errors import ZiaError
from zia_core.ranks import Ranks
from zia_core.training import NonFiniteLoss, TrainSettings, TrainTask


def accumulate_gradients(
    model: nn.Module,
    task: TrainTask,
    settings: TrainSettings,
    indices: Sequence[int],
    ranks: Ranks,
    where: Callable[[Sequence[int]], str],
) -> tuple[float, int]:
    """Add the gradients of this rank's share of a step; return its losses' sum and its labels.

    `indices` are the step's examples, on all ranks together, and their labels are what a sum of
    losses is divided by: the ranks' gradients are to be added up, not averaged. `where` names the
    step and examples in errors.

    Raises:
        NonFiniteLoss: a micro-batch's loss is NaN or infinite.
        ZiaError: the step has no label, or the loss counts others than the task.
    """
    # Known in advance, so that each micro-batch can be scaled and let go before the next.
    step_labels = sum(task.labels(index) for index in indices)
    if step_labels == 0:
        raise ZiaError(f"no label to learn from at {where(indices)}")
    micro_batches, count = _micro_batches(task, settings, indices, ranks)
    loss_sum, labels = 0.0, 0
    for members in micro_batches:
        batch = {name: value.to(ranks.device) for name, value in task.batch(members).items()}
        with autocast(settings):
            loss, n = task.loss(model, batch)
        value = loss.item()
        if not math.isfinite(value):
            raise NonFiniteLoss(f"the loss is {value} at {where(members)}")
        # A micro-batch without labels has a sum of 0, and the mean 0.
        by_label = settings.loss_reduction == "step_labels"
        divisor = step_labels if by_label else max(n, 1) * count
        (loss / divisor).backward()
        loss_sum, labels = loss_sum + value, labels + n
    expected = sum(task.labels(index) for members in micro_batches for index in members)
    if labels != expected:
        raise ZiaError(
            f"the loss counts {labels} labels where the task says {expected}, at {where(indices)}"
        )
    return loss_sum, labels


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
    cut = token_micro_batches([task.length(index) for index in mine], settings.token_budget)
    return [[mine[position] for position in group] for group in cut], len(cut)
