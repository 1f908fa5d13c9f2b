"""Measure a column of a row: the mean over its seeds, its state, and the runs behind it."""

from dataclasses import dataclass
from math import isnan, nan
from statistics import mean, stdev
from typing import Any

from experiments.report import formats
from experiments.report.document import Cell, Source
from experiments.report.planned_seeds import Plans
from experiments.report.rows import MIXED, Column, Row
from experiments.report.run import Run

SEVERAL_MACHINES = "several machines"
NOT_TIMED = "not timed"
NOT_PLANNED, LATER = "not planned", "later"  # in place of "missing"; later: `SEEDS=all` has it


@dataclass(frozen=True)
class Measured:
    """A column of a row.

    For a column over several tasks, a seed's value is the mean over them, and only seeds that are
    done in all of them count.
    """

    column: Column
    state: str  # "done", "not trained", "failed", "not finished", "missing", or one of the above
    values: dict[int, float]  # by seed
    planned: int | None
    failed: int
    machines: int
    timed: bool
    sources: tuple[Source, ...]

    @property
    def mean(self) -> float | None:
        """The mean over seeds, if any."""
        return mean(self.values.values()) if self.values else None

    @property
    def std(self) -> float | None:
        """The sample standard deviation over seeds, from two seeds on."""
        return stdev(self.values.values()) if len(self.values) > 1 else None

    @property
    def number(self) -> str:
        """Mean ± standard deviation: "81.2 ± 0.4", "-", or why the seeds have no common mean."""
        if self.state == MIXED:
            return MIXED
        if self.mean is None or not self.column.field:  # only the paper has a column without one
            return formats.NOTHING
        number = self.column.format(self.mean, nan if self.std is None else self.std)
        return number if number == formats.NOTHING else self.incomparable or number

    @property
    def incomparable(self) -> str:
        """Why the numbers of a machine have no common mean, or an empty string."""
        if self.column.is_time and not self.timed:
            return NOT_TIMED
        return SEVERAL_MACHINES if self.column.of_machine and self.machines > 1 else ""

    @property
    def text(self) -> str:
        """The cell: "81.2 ± 0.4 (5)", "80.9 ± 0.2 (3 of 5, 1 failed)", "missing", ..."""
        if self.mean is None and self.column.field and self.state not in ("done", "not trained"):
            counted = self.planned and self.state != MIXED  # mixed seeds exist
            return self.state + (f" (0 of {self.planned})" if counted else "")
        number = self.number
        if number in (formats.NOTHING, self.incomparable):
            return number
        seeds = formats.seeds(len(self.values), self.planned)
        seeds += f", {self.failed} failed" if self.failed else ""
        text = f"{number} ({seeds})"
        return text if self.state == "done" else f"{self.state}: {text}"

    def minus(self, paper: float | None) -> float | None:
        """Return ours minus the paper's, if both exist and ours was trained."""
        if self.mean is None or paper is None or self.state != "done" or not self.column.compared:
            return None
        return self.mean - paper

    def cell(
        self, label: str, method: str, key: dict[str, Any], paper: float | None = None
    ) -> Cell:
        """Return the cell of row `label` in the section `key`."""
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


def measure(row: Row, column: Column, plans: Plans | None = None) -> Measured:
    """Measure a column of a row; `plans` add how many seeds are planned."""
    row = row.of(column.tasks)
    tasks = column.tasks or tuple(dict.fromkeys(run.task for run in row.runs))
    parts = [row.of((task,)) for task in tasks] if row.runs else []
    planned = [plans.seeds(part.runs[0]) if plans and part.runs else None for part in parts]
    values = {} if any(part.mixed for part in parts) else _by_seed(column, parts)
    return Measured(
        column=column,
        state=_worst([part.state for part in parts], bool(values) or not _measured(column, parts)),
        values=values,
        planned=None if not planned or None in planned else min(filter(None, planned)),
        failed=sum(run.state == "failed" for run in row.runs),
        machines=len({run.hardware for run in row.done}),
        timed=all(run.timed for run in row.done),
        sources=tuple(
            Source(run.folder, run.task, run.seed, run.state, _value(run, column))
            for run in row.runs
        ),
    )


def _by_seed(column: Column, parts: list[Row]) -> dict[int, float]:
    """Means over the parts, for seeds that have a value in each.

    A run may be there twice: itself, and as that which a shared training stands for.
    """
    found: dict[int, dict[str, float]] = {}
    for part in parts:
        for run in part.done:
            value = _value(run, column)
            if value is not None:
                found.setdefault(run.seed, {}).setdefault(run.task, value)
    return {seed: mean(of.values()) for seed, of in sorted(found.items()) if len(of) == len(parts)}


def _measured(column: Column, parts: list[Row]) -> bool:
    """Whether any finished run has a value; for an empty class of questions none has."""
    return any(_value(run, column) is not None for part in parts for run in part.done)


def _worst(states: list[str], complete: bool) -> str:
    """The state of several parts; `complete` if no part lacks a seed of another."""
    for state in ("missing", "failed", "not finished", MIXED, "not trained"):
        if state in states:
            return state
    return "done" if states and complete else "missing"


def _value(run: Run, column: Column) -> float | None:
    value = run.value(column.field) * column.scale
    return None if isnan(value) else value
