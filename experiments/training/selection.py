"""Choose a learning rate on held-out data, never on test data.

A final run without a rate of its own takes the best of a few candidates. Each candidate is tried in
a select run: the same method with another seed and a shorter schedule, scored on data held out of
the training set. Settings inherit `Selection`; `Experiment.requires` is `select_runs`.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.training.optimisation import Optimisation
from zia_core.errors import ZiaError


@dataclass(frozen=True)
class Selection(Optimisation):
    """An optimisation whose peak rate may be chosen. No source states how: all of it [ours]."""

    # "select": a short run with one candidate, scored on held-out data. "final": the full schedule,
    # scored once on what is reported.
    phase: Literal["select", "final"] = "final"
    candidates: tuple[float, ...] = ()  # peak rates to choose from where peak_lr is None
    selection_seed: int = 0
    selection_epochs: float = 1.0


@dataclass(frozen=True)
class Choice:
    """The peak rate of a run, and the candidates it was chosen from (none if it was given)."""

    peak_lr: float
    # "peak_lr" and the deciding score of each candidate; None if its loss was not finite.
    tried: tuple[Mapping[str, float | None], ...] = ()

    def as_result(self) -> dict[str, Any]:
        """Return the choice as fields of result.json."""
        return {
            "peak_lr": self.peak_lr,
            "candidates": len(self.tried),
            "tried": list(self.tried),
        }


def choose_from(rates: tuple[float, ...]) -> dict[str, Any]:
    """Return the settings of a run that chooses its peak rate from `rates`."""
    return {"peak_lr": None, "candidates": rates}


def select_runs(spec: RunSpec, **changes: Any) -> list[RunSpec]:
    """Return one select run per candidate of a final run; none if its rate is given.

    `changes` are settings of the select runs alone, such as the split they are scored on, or
    `candidates=()`, so that a further candidate leaves the other select runs valid.
    """
    settings: Selection = spec.settings
    if settings.phase == "select" or settings.peak_lr is not None:
        return []
    short = shortened(settings, settings.selection_epochs)
    return [
        replace(
            spec,
            seed=settings.selection_seed,
            settings=replace(settings, phase="select", peak_lr=rate, **short, **changes),
        )
        for rate in settings.candidates
    ]


def with_select_runs(
    finals: Iterable[RunSpec], required: Callable[[RunSpec], list[RunSpec]] = select_runs
) -> list[RunSpec]:
    """Return a plan: the final runs, then each select run they need, once.

    Final runs come first because `zia run` takes the first of a plan; the harness does the runs
    that it requires before it in any case.
    """
    finals = list(finals)
    needed = {each.identity: each for spec in finals for each in required(spec)}
    return [*finals, *needed.values()]


def chosen_rate(
    spec: RunSpec,
    folder: RunFolder,
    result_fields: Mapping[str, Any],
    required: Callable[[RunSpec], list[RunSpec]] = select_runs,
) -> Choice:
    """Return the given rate, or that of the select run with the lowest validation loss.

    The first of equals wins.

    Args:
        folder: of the run. Call `write_environment` first, so that select runs made with other
            data or weights are refused.
        result_fields: of the experiment's result.json.
        required: returns the select runs in the order of the candidates.

    Raises:
        ZiaError: as of `RunFolder.result_of` and `best`, or there is neither rate nor candidate.
    """
    settings: Selection = spec.settings
    if settings.peak_lr is not None:
        return Choice(settings.peak_lr)
    runs = required(spec)
    if not runs:
        raise ZiaError("no learning rate: set peak_lr, or candidates to choose it from")
    results = [folder.result_of(each, result_fields) for each in runs]
    values = [None if result is None else float(result["val_loss"]) for result in results]
    number = best([None if value is None else -value for value in values], spec)
    tried = [
        {"peak_lr": rate, "val_loss": value}
        for rate, value in zip(settings.candidates, values, strict=True)
    ]
    return Choice(settings.candidates[number], tuple(tried))


def best(scores: Sequence[float | None], spec: RunSpec) -> int:
    """Return the index of the highest score, the first of equals; None is never the best.

    ZiaError if there is no score at all.
    """
    found = [(i, score) for i, score in enumerate(scores) if score is not None]
    if not found:
        raise ZiaError(
            f"every candidate of {spec.method} on {spec.task} diverged: set candidates with lower "
            "learning rates"
        )
    return max(found, key=lambda each: each[1])[0]


def shortened(settings: Optimisation, epochs: float) -> dict[str, Any]:
    """Return the settings of a schedule of `epochs` with the same share of warm-up."""
    share = settings.warmup_epochs * epochs / settings.epochs if settings.epochs else 0.0
    return {"epochs": epochs, "warmup_epochs": share}
