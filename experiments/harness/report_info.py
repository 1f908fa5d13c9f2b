"""What an experiment tells the report about itself.

The report finds it through the registry, as `Experiment.report`, and imports no experiment.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import nan
from pathlib import Path
from typing import Any, Protocol, TypeVar


class Identified(Protocol):
    """The identity of a run."""

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
    """Selects runs for a table whose lines are not methods, and names the line of each."""

    def __call__(self, runs: Sequence[R], /) -> Iterable[tuple[R, str]]: ...  # noqa: D102


@dataclass(frozen=True)
class Score:
    """The number by which a run is judged."""

    field: str  # of result.json
    title: str  # with its unit
    scale: float = 1.0  # from the field to that unit
    higher_is_better: bool = True
    tasks: tuple[str, ...] = ()  # that are judged; empty: all


@dataclass(frozen=True)
class TrainedRule:
    """When a finished run counts as trained."""

    fields: tuple[str, ...]  # of result.json, for `holds`
    holds: Callable[[Mapping[str, float | None]], bool]
    unmet: str  # what failed, for readers
    details: str = ""


def _training_loss_fell(result: Mapping[str, float | None]) -> bool:
    first, last, tuned = (_number(result, name) for name in TRAINING_LOSS.fields)
    return last <= 0.8 * first or tuned == 0  # nothing was trained


def _validation_loss_fell(result: Mapping[str, float | None]) -> bool:
    start, end, tuned = (_number(result, name) for name in VALIDATION_LOSS.fields)
    return end < start or tuned == 0  # nothing was trained


def _number(result: Mapping[str, float | None], name: str) -> float:
    value = result.get(name)
    return nan if value is None else value


TRAINING_LOSS = TrainedRule(
    ("train_loss_first", "train_loss_last", "tuned_parameters"),
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
    """Tasks that tables and claims name together, as `@<name of the group>`."""

    tasks: tuple[str, ...]
    if_they_count: bool = False  # claims leave out tasks that do not pass the control
    remark: str = ""  # added to claims about them


@dataclass(frozen=True)
class Control:
    """A task counts only where `method`'s mean score is above that of `baseline`."""

    method: str
    baseline: str  # does not use the backbone
    tasks: tuple[str, ...]  # to which this applies
    sentence: str  # the rule, for readers


@dataclass(frozen=True)
class Asked:
    """What a model was asked: only texts and pictures of the project's own."""

    text: str
    context: str = ""
    reference: str = ""  # the right answer, where there is one
    png: bytes = b""


@dataclass(frozen=True)
class Samples:
    """Which predictions the report shows.

    `fields(profile)` are the values that a shown record has. `asked(profile, task, ids)` maps ids
    of predictions to what was asked.
    """

    asked: Callable[[str, str, Sequence[str]], Mapping[str, Asked]]
    fields: Callable[[str], Mapping[str, str]] = lambda profile: {}


@dataclass(frozen=True)
class ReportInfo:
    """What tables, figures, claims and the report need to know of an experiment.

    `is_final(task, settings)` says whether a run with these settings is reported. `lines` are used
    by the tables that name them, and by claims. `inputs(settings)` describes how model inputs were
    made, in a sentence without its full stop. `depth(run)` is the number of its blocks, if
    known. `guesses` has, for a score, the fields with what answers without any knowledge score.
    """

    score: Score
    trained: TrainedRule = TRAINING_LOSS
    is_final: Callable[[str, Mapping[str, Any]], bool] = lambda task, settings: True
    tables: Path | None = None  # a folder with tables of its own
    task_titles: Mapping[str, str] = field(default_factory=dict)  # the paper's, if it has them
    short_titles: Mapping[str, str] = field(default_factory=dict)  # for figures
    groups: Mapping[str, TaskGroup] = field(default_factory=dict)
    drawn_together: tuple[str, ...] = ()  # groups with a figure each; other tasks share one
    averaged: tuple[str, ...] = ()  # groups that have one score, the mean
    control: Control | None = None
    lines: Mapping[str, Lines] = field(default_factory=dict)
    shared: SharedTraining | None = None
    guesses: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    inputs: Callable[[Mapping[str, Any]], str | None] = lambda settings: None
    depth: Callable[[Any], int | None] = lambda run: None
    samples: Samples | None = None

    def group(self, name: str, profile: str) -> TaskGroup:
        """Return a group of tasks, or the profile's own, named `<profile>-<name>`."""
        return self.groups.get(f"{profile}-{name}") or self.groups.get(name) or TaskGroup(())
