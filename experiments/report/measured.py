"""One number of a table: a column of a row, its seeds, what is missing, and the runs behind it."""

from dataclasses import dataclass
from math import isnan
from typing import TYPE_CHECKING, Any

from experiments.report import formats
from experiments.report.document import Cell, Source
from experiments.report.planned import Plans
from experiments.report.rows import Column, Row

if TYPE_CHECKING:
    from pandas import Series


@dataclass(frozen=True)
class Measured:
    """A column of a row; for a column over several tasks, the mean over them seed by seed.

    `state` is "done", "not trained", "failed", "not finished" or "missing". `values` are those of
    the seeds that are done in every task of the column, so a group that lacks a task has none.
    """

    column: Column
    state: str
    values: "Series"  # by seed
    planned: int | None
    failed: int
    machines: int
    sources: tuple[Source, ...]

    @property
    def mean(self) -> float | None:
        """The mean over seeds; None where nothing is measured."""
        return float(self.values.mean()) if len(self.values) else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds; None below two."""
        return float(self.values.std()) if len(self.values) > 1 else None

    @property
    def text(self) -> str:
        """The cell: "81.2 ± 0.4 (5)", "80.9 ± 0.2 (3 of 5, 1 failed)", "missing", ..."""
        if self.mean is None:
            if self.state not in ("done", "not trained"):
                return self.state + (f" (0 of {self.planned})" if self.planned else "")
            return formats.NOTHING
        if self.column.of_machine and self.machines > 1:
            return "several machines"
        number = self.column.format(self.mean, float("nan") if self.std is None else self.std)
        if number == formats.NOTHING:
            return number
        seeds = formats.seeds(len(self.values), self.planned)
        seeds += f", {self.failed} failed" if self.failed else ""
        text = f"{number} ({seeds})"
        return text if self.state == "done" else f"{self.state}: {text}"

    def minus(self, paper: float | None) -> float | None:
        """Return ours minus the paper's, where both are there and ours was trained."""
        if self.mean is None or paper is None or self.state != "done" or not self.column.compared:
            return None
        return self.mean - paper

    def cell(
        self, label: str, method: str, key: dict[str, Any], paper: float | None = None
    ) -> Cell:
        """Return the number with everything behind it, in the row `label` of the section `key`."""
        return Cell(
            source="ours",
            row=label,
            column=self.column.title,
            mean=self.mean,
            std=self.std,
            n=len(self.values),
            planned=self.planned,
            unit=self.column.unit,
            state=self.state,
            difference=self.minus(paper),
            key=key,
            method=method,
            tasks=self.column.tasks,
            text=self.text,
            runs=self.sources,
        )


def measure(row: Row, column: Column, plans: Plans) -> Measured:
    """Return the column of the row, with its state and the number of planned seeds."""
    import pandas as pd

    row = row.of(column.tasks)
    if row.runs.empty:  # most cells of a table that has just begun
        return Measured(column, row.state, pd.Series(dtype=float), None, 0, 0, ())
    tasks = column.tasks or tuple(dict.fromkeys(row.runs["task"]))
    parts = [row.of((task,)) for task in tasks]
    of_seeds = [
        (part.done.set_index("seed")[column.field] * column.scale).rename(task)
        for task, part in zip(tasks, parts, strict=True)
    ]
    table = pd.concat(of_seeds, axis=1) if of_seeds else pd.DataFrame(dtype=float)
    values = table.dropna().mean(axis=1).sort_index()
    planned = [plans.seeds(part) for part in parts]
    runs = row.runs
    return Measured(
        column=column,
        state=_worst([part.state for part in parts], len(values)),
        values=values,
        planned=None if not planned or None in planned else min(filter(None, planned)),
        failed=int((runs["state"] == "failed").sum()),
        machines=int(runs.loc[runs["state"] == "done", "hardware"].nunique()),
        sources=tuple(
            Source(run.folder, run.task, int(run.seed), run.state, _value(run, column))
            for run in runs.itertuples()
        ),
    )


def _worst(states: list[str], common_seeds: int) -> str:
    for state in ("missing", "failed", "not finished", "not trained"):
        if state in states:
            return state
    return "done" if states and common_seeds else "missing"


def _value(run: object, column: Column) -> float | None:
    value = float(getattr(run, column.field)) * column.scale
    return None if isnan(value) else value
