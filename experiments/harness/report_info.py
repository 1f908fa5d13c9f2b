"""What the report has to know of an experiment, which its `Experiment` carries.

Everything here is data, or a function from an experiment's own folder; the report finds it through
the registry and imports no experiment.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import isnan, nan
from pathlib import Path
from typing import Any, Protocol, TypeVar


class Identified(Protocol):
    """A run, as far as its identity goes."""

    @property
    def profile(self) -> str: ...  # noqa: D102
    @property
    def task(self) -> str: ...  # noqa: D102
    @property
    def method(self) -> str: ...  # noqa: D102
    @property
    def backbone(self) -> str: ...  # noqa: D102
    @property
    def data(self) -> str: ...  # noqa: D102
    @property
    def version(self) -> int: ...  # noqa: D102
    @property
    def settings(self) -> dict[str, Any]: ...  # noqa: D102


R = TypeVar("R", bound=Identified)


class Lines(Protocol):
    """Picks the runs of a table whose lines are not methods, each with the name of its line."""

    def __call__(self, runs: Sequence[R], /) -> Iterable[tuple[R, str]]: ...  # noqa: D102


@dataclass(frozen=True)
class Score:
    """The number by which a run is judged."""

    field: str  # of result.json
    title: str  # with its unit
    scale: float = 1.0  # of the field, to that unit
    higher_is_better: bool = True
    tasks: tuple[str, ...] = ()  # whose runs are judged; empty: all


@dataclass(frozen=True)
class TrainedRule:
    """When a finished run counts as trained."""

    fields: tuple[str, ...]  # of result.json, which `holds` reads
    holds: Callable[[Mapping[str, float | None]], bool]
    unmet: str  # what is the matter with runs for which it does not hold
    details: str = ""


def _training_loss_fell(result: Mapping[str, float | None]) -> bool:
    first, last = (_number(result, name) for name in TRAINING_LOSS.fields)
    return isnan(first) or last <= 0.8 * first  # without training there is no loss


def _validation_loss_fell(result: Mapping[str, float | None]) -> bool:
    start, end, tuned = (_number(result, name) for name in VALIDATION_LOSS.fields)
    return end < start or tuned == 0  # a method that trains nothing need not improve


def _number(result: Mapping[str, float | None], name: str) -> float:
    value = result.get(name)
    return nan if value is None else value


TRAINING_LOSS = TrainedRule(
    ("train_loss_first", "train_loss_last"),
    _training_loss_fell,
    "the training loss of a seed did not fall by 20 %",
    "mean of the last tenth of the steps against the first",
)
VALIDATION_LOSS = TrainedRule(
    ("val_loss_start", "val_loss", "tuned_parameters"),
    _validation_loss_fell,
    "the validation loss of a seed did not fall",
)


@dataclass(frozen=True)
class SharedTraining:
    """A run that is scored twice stands for a run of another task too, which need not train."""

    setting: str  # of runs that are scored twice
    task: str  # that they are also a run of
    prefix: str  # of the fields of result.json with the other scores
    settings: Mapping[str, Any]  # of the run that they stand for, where it has others


@dataclass(frozen=True)
class TaskGroup:
    """Tasks that tables, claims and figures name together, as `@<name of the group>`."""

    tasks: tuple[str, ...]
    if_they_count: bool = False  # in a claim, only those that pass the experiment's control
    remark: str = ""  # what a claim about them adds


@dataclass(frozen=True)
class Control:
    """A task counts only where `method`'s mean score is above that of `baseline`."""

    method: str
    baseline: str  # does not use the backbone
    tasks: tuple[str, ...]  # that are controlled
    sentence: str  # the rule, for readers


@dataclass(frozen=True)
class Asked:
    """What a model was asked; texts and pictures must be the project's own."""

    text: str
    context: str = ""
    reference: str = ""  # the right answer, where there is one
    png: bytes = b""


@dataclass(frozen=True)
class Samples:
    """Which predictions the report shows, and beside what.

    `fields(profile)` are what a record of the predictions must have to be shown. `asked(profile,
    task, ids)` says what was asked, by the ids of the predictions.
    """

    asked: Callable[[str, str, Sequence[str]], Mapping[str, Asked]]
    fields: Callable[[str], Mapping[str, str]] = lambda profile: {}


@dataclass(frozen=True)
class ReportInfo:
    """What tables, figures, claims and the report have to know of an experiment.

    `is_final(task, settings)` says of a run's settings whether its result is reported. `lines` are
    called by tables that name them, and by claims, in this order. `inputs(settings)` describes how
    a run's inputs were made, in a sentence without its full stop. `depth(backbone)` is its number
    of blocks, None for an unknown one.
    """

    score: Score
    trained: TrainedRule = TRAINING_LOSS
    is_final: Callable[[str, Mapping[str, Any]], bool] = lambda task, settings: True
    tables: Path | None = None  # a folder of tables, besides those of the paper
    task_titles: Mapping[str, str] = field(default_factory=dict)  # the paper's, where it has them
    short_titles: Mapping[str, str] = field(default_factory=dict)  # for half a column
    groups: Mapping[str, TaskGroup] = field(default_factory=dict)
    drawn_together: tuple[str, ...] = ()  # groups with a figure each; none: all tasks in one
    averaged: tuple[str, ...] = ()  # groups whose mean is a score; none: each task is one
    control: Control | None = None
    lines: Mapping[str, Lines] = field(default_factory=dict)
    shared: SharedTraining | None = None
    inputs: Callable[[Mapping[str, Any]], str | None] = lambda settings: None
    depth: Callable[[str], int | None] = lambda backbone: None
    samples: Samples | None = None

    def group(self, name: str, profile: str) -> TaskGroup:
        """Return a group of tasks; a profile may have another one, called `<profile>-<name>`."""
        return self.groups.get(f"{profile}-{name}") or self.groups.get(name) or TaskGroup(())
