"""Runs as the rows of a table: seeds together, and nothing together that is not comparable."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from math import isnan, nan
from statistics import mean, stdev
from typing import Any

from experiments.harness.report_info import TRAINING_LOSS, TrainedRule
from experiments.io.files import canonical_json
from experiments.report import formats
from experiments.report.runs import Run

# Runs that differ in one of these are never in one table; runs of one task that differ in settings
# are never in one row.
SECTION = ("profile", "backbone", "data", "version", "task")
SECTION_OF_TASKS = ("profile", "backbone", "data", "version")
MIXED = "different data or weights"  # of the seeds of one task: they have no common value


@dataclass(frozen=True)
class Column:
    """A field of result.json as a column; `title` is the paper's where the paper has it."""

    field: str
    title: str
    unit: str
    format: Callable[[float, float], str]
    of_machine: bool = False  # seeds on different machines have no common value
    scale: float = 1.0  # of the result's field, to the unit of the column
    tasks: tuple[str, ...] = ()  # the mean over these tasks, seed by seed; empty: any task
    compared: bool = False  # whether ours minus the paper's says anything
    if_there: bool = False  # shown where a run has it: older runs do not


@dataclass(frozen=True)
class Row:
    """The runs of one method with one set of settings: its seeds, in one task or in several."""

    method: str  # or what the line of the runs is called
    runs: tuple[Run, ...]
    trained: TrainedRule = TRAINING_LOSS
    # The settings in its label, for example those that tell it from a similar row.
    variant: dict[str, str] = field(default_factory=dict)

    @property
    def done(self) -> list[Run]:
        """The finished runs."""
        return [run for run in self.runs if run.state == "done"]

    @property
    def machines(self) -> list[str]:
        """What the runs were computed on."""
        return sorted({run.hardware for run in self.runs})

    def of(self, tasks: Sequence[str]) -> "Row":
        """Return the part of the row that is about these tasks; all of it if none is named."""
        if not tasks:
            return self
        return replace(self, runs=tuple(run for run in self.runs if run.task in tasks))

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the row's first run."""
        return self.runs[0].settings if self.runs else {}

    def setting(self, name: str) -> str:
        """Return a setting as text, by task where it differs between the row's tasks."""
        texts = [(run.task, setting_text(run.settings, name)) for run in self.runs]
        different = dict.fromkeys(text for _, text in texts)
        if len(different) < 2:
            return next(iter(different), "not recorded")
        by_task = {
            text: dict.fromkeys(t for t, other in texts if other == text) for text in different
        }
        return "; ".join(f"{text} ({', '.join(tasks)})" for text, tasks in by_task.items())

    def describe(self, names: Sequence[str]) -> str:
        """Return the named settings with their values."""
        return ", ".join(f"{name} {self.setting(name)}" for name in names)

    @property
    def mixed(self) -> bool:
        """Whether finished seeds of a task had different data or weights; unrecorded ones fit."""
        found: dict[tuple[str, str], set[str]] = {}
        for run in self.done:
            for kind, digest in run.inputs.items():
                found.setdefault((run.task, kind), set()).add(digest)
        return any(len(digests) > 1 for digests in found.values())

    @property
    def state(self) -> str:
        """What stands in place of numbers, or "done", or "not trained"."""
        if not self.runs:
            return "missing"
        if not self.done:
            return "failed" if "failed" in {run.state for run in self.runs} else "not finished"
        if self.mixed:
            return MIXED
        trained = all(self.trained.holds(run.result) for run in self.done)
        return "done" if trained else "not trained"

    def measured(self, column: Column) -> str:
        """Return mean ± standard deviation over the seeds as text."""
        if self.mixed:
            return MIXED
        if column.of_machine and len({run.hardware for run in self.done}) > 1:
            return "several machines"
        values = [value for run in self.done if not isnan(value := run.value(column.field))]
        if not values:
            return formats.NOTHING
        return column.format(mean(values), stdev(values) if len(values) > 1 else nan)


def setting_text(settings: dict[str, Any], name: str) -> str:
    """Return a setting as text; a run that is older than the setting does not have it."""
    return formats.setting(settings[name]) if name in settings else "not recorded"


@dataclass(frozen=True)
class Section:
    """Everything that may stand in one table: one profile, backbone, data and version."""

    key: dict[str, Any]
    rows: list[Row]

    @property
    def begun(self) -> list[Row]:
        """The rows that have runs."""
        return [row for row in self.rows if row.runs]

    @property
    def runs(self) -> list[Run]:
        """All runs."""
        return [run for row in self.rows for run in row.runs]

    def varying(self) -> list[str]:
        """Return the settings in which the runs differ."""
        runs = [run.settings for run in self.runs]
        names = sorted({name for settings in runs for name in settings})
        return [n for n in names if len({setting_text(settings, n) for settings in runs}) > 1]

    def label(self, row: Row) -> str:
        """Return the method, with what tells it from another row of the same method."""
        label = row.method + (" †" if self.reduced and row.runs else "")
        different = ", ".join(f"{name} {value}" for name, value in row.variant.items())
        return f"{label} ({different})" if different else label

    @property
    def reduced(self) -> bool:
        """Whether the runs saw a part of the data, or trained for less than the profile's time."""
        return str(self.key.get("data", "")).startswith("reduced")


def sections(
    runs: Sequence[Run],
    methods: Sequence[str],
    by: Sequence[str] = SECTION,
    trained: TrainedRule = TRAINING_LOSS,
    shown: Sequence[str] = (),
) -> list[Section]:
    """Return the runs, in their order, sorted into tables and rows.

    Each table begins with `methods`, also with those that have no runs; other methods follow by
    name. The settings `shown` are in the label of every row. Without any run there is one table,
    without a key.
    """
    groups: dict[tuple[Any, ...], list[Run]] = {}
    for run in runs:
        groups.setdefault(tuple(getattr(run, name) for name in by), []).append(run)
    return [
        Section(dict(zip(by, key, strict=True)), list(_rows(group, methods, trained, shown)))
        for key, group in groups.items()
    ] or [Section({}, list(_rows((), methods, trained, shown)))]


def _rows(
    runs: Sequence[Run],
    methods: Sequence[str],
    trained: TrainedRule,
    shown: Sequence[str],
) -> Iterator[Row]:
    for method in [*methods, *sorted({run.heading for run in runs} - set(methods))]:
        of_method = [run for run in runs if run.heading == method]
        if not of_method:
            yield Row(method, (), trained)
            continue
        names = sorted({*_variants(of_method), *shown})
        variants: dict[str, list[Run]] = {}
        for run in of_method:
            texts = {name: setting_text(run.settings, name) for name in names}
            variants.setdefault(canonical_json(texts), []).append(run)
        for _, group in sorted(variants.items()):
            texts = {name: setting_text(group[0].settings, name) for name in names}
            yield Row(method, tuple(group), trained, texts)


def _variants(runs: Sequence[Run]) -> set[str]:
    """The settings in which runs of one method differ within one task.

    A setting that only follows the task (an image size, a prompt length) does not split a row.
    """
    names = set()
    for task in {run.task for run in runs}:
        settings = [run.settings for run in runs if run.task == task]
        for name in {name for one in settings for name in one}:
            if len({setting_text(one, name) for one in settings}) > 1:
                names.add(name)
    return names
