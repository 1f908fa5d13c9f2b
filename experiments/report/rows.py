"""Runs as the rows of a table: seeds together, and nothing together that is not comparable."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.harness.files import canonical_json
from experiments.report import formats

if TYPE_CHECKING:
    from pandas import DataFrame

# Runs that differ in one of these are never in one table; runs that differ in settings are never
# in one row.
SECTION = ("profile", "backbone", "data", "version", "task")


@dataclass(frozen=True)
class Column:
    """A field of result.json as a column; `title` is the paper's where the paper has it."""

    field: str
    title: str
    unit: str
    format: Callable[[float, float], str]
    of_machine: bool = False  # seeds on different machines have no common value


@dataclass(frozen=True)
class Row:
    """The runs of one method with one set of settings: its seeds."""

    method: str
    runs: "DataFrame"

    @property
    def done(self) -> "DataFrame":
        """The finished runs."""
        return self.runs[self.runs["state"] == "done"]

    @property
    def settings(self) -> dict[str, Any]:
        """The settings that all runs of the row have."""
        return {} if self.runs.empty else dict(self.runs["settings"].iloc[0])

    def setting(self, name: str) -> str:
        """Return a setting as text; a run that is older than the setting does not have it."""
        return formats.setting(self.settings[name]) if name in self.settings else "not recorded"

    def describe(self, names: Sequence[str]) -> str:
        """Return the named settings with their values."""
        return ", ".join(f"{name} {self.setting(name)}" for name in names)

    @property
    def state(self) -> str:
        """What stands in place of numbers, or "done", or "not trained".

        A method is not trained if its validation loss did not fall for one of the seeds.
        """
        if self.runs.empty:
            return "missing"
        if self.done.empty:
            return "failed" if (self.runs["state"] == "failed").any() else "not finished"
        fell = self.done["val_loss"] < self.done["val_loss_start"]
        return "done" if (fell | (self.done["tuned_parameters"] == 0)).all() else "not trained"

    def measured(self, column: Column) -> str:
        """Return mean ± standard deviation over the seeds as text."""
        if column.of_machine and self.done["hardware"].nunique() > 1:
            return "several machines"
        values = self.done[column.field]
        return column.format(values.mean(), values.std())


@dataclass(frozen=True)
class Section:
    """Everything that may stand in one table: one profile, backbone, data, version and task."""

    key: dict[str, Any]
    rows: list[Row]

    def varying(self, rows: Sequence[Row]) -> list[str]:
        """Return the settings in which `rows` differ."""
        begun = [row for row in rows if not row.runs.empty]
        names = sorted({name for row in begun for name in row.settings})
        return [name for name in names if len({row.setting(name) for row in begun}) > 1]

    def label(self, row: Row) -> str:
        """Return the method, with what tells it from another row of the same method."""
        same = [other for other in self.rows if other.method == row.method]
        label = row.method + (" †" if self.reduced and not row.runs.empty else "")
        different = row.describe(self.varying(same))
        return f"{label} ({different})" if different else label

    @property
    def reduced(self) -> bool:
        """Whether the runs saw a part of the data."""
        return str(self.key.get("data", "")).startswith("reduced")


def sections(runs: "DataFrame", methods: Sequence[str]) -> list[Section]:
    """Return the runs of a `run_frame`, sorted into tables and rows.

    Each table begins with `methods`, also with those that have no runs; other methods follow by
    name. Without any run there is one table, without a key.
    """
    groups = runs.groupby(list(SECTION), observed=True)
    return [
        Section(dict(zip(SECTION, key, strict=True)), list(_rows(group, methods)))
        for key, group in groups
    ] or [Section({}, list(_rows(runs, methods)))]


def _rows(runs: "DataFrame", methods: Sequence[str]) -> Iterator[Row]:
    for method in [*methods, *sorted(set(runs["method"]) - set(methods))]:
        of_method = runs[runs["method"] == method]
        if of_method.empty:
            yield Row(method, of_method)
        for _, group in of_method.groupby(of_method["settings"].map(canonical_json)):
            yield Row(method, group)
