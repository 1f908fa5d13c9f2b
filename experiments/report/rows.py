"""Runs as the rows of a table: seeds together, and nothing together that is not comparable."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from experiments.harness.files import canonical_json
from experiments.report import formats

if TYPE_CHECKING:
    from pandas import DataFrame, Series

# Runs that differ in one of these are never in one table; runs of one task that differ in settings
# are never in one row.
SECTION = ("profile", "backbone", "data", "version", "task")
SECTION_OF_TASKS = ("profile", "backbone", "data", "version")


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


def training_fell(runs: "DataFrame") -> "Series":
    """Whether the training loss fell by 20 %: the last tenth's mean at most 0.8 of the first's."""
    fell = runs["train_loss_last"] <= 0.8 * runs["train_loss_first"]
    return fell | runs["train_loss_first"].isna()


def validation_fell(runs: "DataFrame") -> "Series":
    """Whether the validation loss fell at all; a method that trains nothing need not."""
    return (runs["val_loss"] < runs["val_loss_start"]) | (runs["tuned_parameters"] == 0)


@dataclass(frozen=True)
class Row:
    """The runs of one method with one set of settings: its seeds, in one task or in several."""

    method: str
    runs: "DataFrame"
    fell: "Callable[[DataFrame], Series]" = training_fell
    variant: dict[str, str] = field(default_factory=dict)  # what tells it from a similar row

    @property
    def done(self) -> "DataFrame":
        """The finished runs."""
        return self.runs[self.runs["state"] == "done"]

    def of(self, tasks: Sequence[str]) -> "Row":
        """Return the part of the row that is about these tasks; all of it if none is named."""
        if not tasks:
            return self
        return Row(self.method, self.runs[self.runs["task"].isin(tasks)], self.fell, self.variant)

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of the row's first run."""
        return {} if self.runs.empty else dict(self.runs["settings"].iloc[0])

    def setting(self, name: str) -> str:
        """Return a setting as text, by task where it differs between the row's tasks."""
        texts = [(run.task, setting_text(run.settings, name)) for run in self.runs.itertuples()]
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
    def state(self) -> str:
        """What stands in place of numbers, or "done", or "not trained"."""
        if self.runs.empty:
            return "missing"
        if self.done.empty:
            return "failed" if (self.runs["state"] == "failed").any() else "not finished"
        return "done" if self.fell(self.done).all() else "not trained"

    def measured(self, column: Column) -> str:
        """Return mean ± standard deviation over the seeds as text."""
        if column.of_machine and self.done["hardware"].nunique() > 1:
            return "several machines"
        values = self.done[column.field]
        return column.format(values.mean(), values.std())


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
        return [row for row in self.rows if not row.runs.empty]

    def varying(self) -> list[str]:
        """Return the settings in which the runs differ."""
        runs = [settings for row in self.begun for settings in row.runs["settings"]]
        names = sorted({name for settings in runs for name in settings})
        return [n for n in names if len({setting_text(settings, n) for settings in runs}) > 1]

    def label(self, row: Row) -> str:
        """Return the method, with what tells it from another row of the same method."""
        label = row.method + (" †" if self.reduced and not row.runs.empty else "")
        different = ", ".join(f"{name} {value}" for name, value in row.variant.items())
        return f"{label} ({different})" if different else label

    @property
    def reduced(self) -> bool:
        """Whether the runs saw a part of the data, or trained for less than the profile's time."""
        return str(self.key.get("data", "")).startswith("reduced")


def sections(
    runs: "DataFrame",
    methods: Sequence[str],
    by: Sequence[str] = SECTION,
    fell: "Callable[[DataFrame], Series]" = training_fell,
) -> list[Section]:
    """Return the runs of a `run_frame`, sorted into tables and rows.

    Each table begins with `methods`, also with those that have no runs; other methods follow by
    name. Without any run there is one table, without a key.
    """
    groups = runs.groupby(list(by), observed=True)
    return [
        Section(dict(zip(by, key, strict=True)), list(_rows(group, methods, fell)))
        for key, group in groups
    ] or [Section({}, list(_rows(runs, methods, fell)))]


def _rows(
    runs: "DataFrame", methods: Sequence[str], fell: "Callable[[DataFrame], Series]"
) -> Iterator[Row]:
    for method in [*methods, *sorted(set(runs["method"]) - set(methods))]:
        of_method = runs[runs["method"] == method]
        if of_method.empty:
            yield Row(method, of_method, fell)
            continue
        names = _variants(of_method)
        variants = of_method["settings"].map(
            lambda settings, names=names: canonical_json(
                {name: setting_text(settings, name) for name in names}
            )
        )
        for _, group in of_method.groupby(variants):
            first = group["settings"].iloc[0]
            yield Row(method, group, fell, {name: setting_text(first, name) for name in names})


def _variants(runs: "DataFrame") -> list[str]:
    """The settings in which runs of one method differ within one task.

    A setting that only follows the task (an image size, a prompt length) does not split a row.
    """
    names = set()
    for _, of_task in runs.groupby("task"):
        settings = list(of_task["settings"])
        for name in {name for one in settings for name in one}:
            if len({setting_text(one, name) for one in settings}) > 1:
                names.add(name)
    return sorted(names)
