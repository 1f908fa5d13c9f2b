"""Decide whether a task counts: the backbone's features must beat the bare inputs on it."""

from experiments.harness.report_info import Control
from experiments.report.measured import measure
from experiments.report.rows import Column, Section


def counts(section: Section, column: Column, control: Control) -> bool | None:
    """Return whether the column's task counts; None until both methods are done and trained."""
    means = []
    for method in (control.method, control.baseline):
        rows = [r for r in section.rows if r.method == method and r.of(column.tasks).runs]
        measured = measure(rows[0], column) if len(rows) == 1 else None
        if measured is None or measured.state != "done" or measured.mean is None:
            return None
        means.append(measured.mean)
    return means[0] > means[1]


def in_words(verdict: bool | None) -> str:
    """Return the verdict as text."""
    return {True: "yes", False: "does not count", None: "not known yet"}[verdict]
