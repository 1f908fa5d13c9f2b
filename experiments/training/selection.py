"""Which learning rate a run takes: the best of a few, tried on held-out data, never on test data.

A run that reports a score ("final") and gives no rate needs one run a candidate ("select"): of its
method, with another seed and on a schedule of its own, scored on what is held out of the training
data. An experiment's settings inherit `Selection`; its `requires` is `select_runs`.
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
    """An optimisation whose peak rate may be chosen; settings that are silent about it [ours]."""

    # "select": train with one of the candidates on a short schedule, and score what is held out.
    # "final": train in full, and score what is reported, once.
    phase: Literal["select", "final"] = "final"
    candidates: tuple[float, ...] = ()  # peak rates that are tried where peak_lr is None
    selection_seed: int = 0
    selection_epochs: float = 1.0


@dataclass(frozen=True)
class Choice:
    """The peak rate of a run, and what it was chosen from: nothing where it was given."""

    peak_lr: float
    # One a candidate: "peak_lr", and what decided, None where the loss was not finite.
    tried: tuple[Mapping[str, float | None], ...] = ()

    def as_result(self) -> dict[str, Any]:
        """The choice as fields of result.json."""
        return {
            "peak_lr": self.peak_lr,
            "candidates": len(self.tried),
            "tried": list(self.tried),
        }


def select_runs(spec: RunSpec, **changes: Any) -> list[RunSpec]:
    """The runs that a run's rate is chosen from, one a candidate; none if it is given.

    `changes` are settings that only these have, such as what they are validated on.
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
    """A plan: the runs that are reported, then once each those that they choose their rates from.

    So the first run of a plan, which `zia run` takes by default, is one that is reported; what it
    requires is done before it in any case.
    """
    reported = list(finals)
    needed = {each.identity: each for spec in reported for each in required(spec)}
    return [*reported, *needed.values()]


def chosen_rate(
    spec: RunSpec,
    folder: RunFolder,
    result_fields: Mapping[str, Any],
    required: Callable[[RunSpec], list[RunSpec]] = select_runs,
    by: str = "val_loss",
    wanted: Literal["lowest", "highest"] = "lowest",
) -> Choice:
    """The rate that is given, or else that of the best select run, of equals the first.

    Args:
        folder: of the run; `write_environment` comes before, so that a select run that was made
            with other data or weights is refused.
        result_fields: of the experiment's result.json.
        required: names the select runs, in the order of the candidates.
        by, wanted: the field of a select run's result that decides, and how.

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
    values = [None if result is None else float(result[by]) for result in results]
    sign = -1.0 if wanted == "lowest" else 1.0
    number = best([None if value is None else sign * value for value in values], spec)
    tried = [
        {"peak_lr": rate, by: value}
        for rate, value in zip(settings.candidates, values, strict=True)
    ]
    return Choice(settings.candidates[number], tuple(tried))


def best(scores: Sequence[float | None], spec: RunSpec) -> int:
    """Which candidate of a run has the highest score: of equals the first, None only loses.

    ZiaError where there is no score at all.
    """
    found = [(i, score) for i, score in enumerate(scores) if score is not None]
    if not found:
        raise ZiaError(
            f"every candidate of {spec.method} on {spec.task} diverged: set candidates with lower "
            "learning rates"
        )
    return max(found, key=lambda each: each[1])[0]


def shortened(settings: Optimisation, epochs: float) -> dict[str, Any]:
    """The settings of a schedule of `epochs` that has the same share of warm-up."""
    share = settings.warmup_epochs * epochs / settings.epochs if settings.epochs else 0.0
    return {"epochs": epochs, "warmup_epochs": share}
