"""Choose learning rate and weight decay on val200, never on test images."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.training.selection import best, shortened
from experiments.vtab_vit import tasks
from experiments.vtab_vit.settings import Settings
from zia_core.errors import ZiaError


def select_runs(spec: RunSpec) -> list[RunSpec]:
    """Return the select runs of a final run, one per candidate and task; none if its rate is given.

    The candidates are in their order, the tasks of one together.
    """
    settings: Settings = spec.settings
    if settings.phase == "select" or settings.peak_lr is not None:
        return []
    schedule: dict[str, Any] = {}
    if settings.selection_epochs is not None and settings.epochs > 0:
        schedule = shortened(settings, settings.selection_epochs)
    return [
        replace(
            spec,
            task=task.name,
            seed=settings.selection_seed,
            settings=replace(
                settings,
                phase="select",
                candidates=(),  # so that a further candidate leaves the other select runs valid
                selection_seed=Settings.selection_seed,
                selection_epochs=None,
                selection_task=None,
                peak_lr=rate,
                weight_decay=decay,
                **schedule,
            ),
        )
        for rate, decay in settings.candidates
        for task in tasks.expand(settings.selection_task or spec.task)
    ]


def chosen(
    spec: RunSpec, folder: RunFolder, result_fields: Mapping[str, Any]
) -> tuple[float, float]:
    """Return the given learning rate and weight decay, or the pair with the best val200 accuracy.

    Of several tasks the mean decides. The first of equals wins; a candidate whose loss was not
    finite on one of them never does.

    Raises:
        ZiaError: a select run is not done or was made with other data or weights, all of them
            diverged, or the settings give neither rate nor candidates.
    """
    settings: Settings = spec.settings
    rate, decay = settings.peak_lr, settings.weight_decay
    if rate is not None and decay is not None:
        return rate, decay
    given = rate is not None or decay is not None
    if given or settings.phase == "select" or not settings.candidates:
        raise ZiaError(
            "set both peak_lr and weight_decay, or neither and phase=final with candidates to "
            "choose from"
        )
    results = [folder.result_of(select, result_fields) for select in select_runs(spec)]
    each = len(results) // len(settings.candidates)  # tasks that a candidate was tried on
    candidates = [results[start : start + each] for start in range(0, len(results), each)]
    return settings.candidates[best([_score(tried) for tried in candidates], spec)]


def _score(results: Sequence[Mapping[str, Any] | None]) -> float | None:
    """The mean accuracy of a candidate over tasks; None if it diverged on one."""
    accuracies = [result["accuracy"] for result in results if result is not None]
    return fmean(accuracies) if len(accuracies) == len(results) else None
