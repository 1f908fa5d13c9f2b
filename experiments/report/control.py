"""Decide whether a task counts: the backbone's features must beat the bare inputs on it."""

from collections.abc import Sequence

from experiments.harness.report_info import Control, ReportInfo
from experiments.report.experiments import score_column
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


def expanded(
    names: Sequence[str], section: Section, info: ReportInfo
) -> tuple[tuple[str, ...], list[str]]:
    """Return tasks, with groups such as "@small" expanded, and the remarks on the groups.

    A group may leave out tasks that do not count, or of which that is not known yet (`undecided`).
    Without any task, the one task is "none".
    """
    found: list[str] = []
    remarks: dict[str, None] = {}
    for name in names:
        if name.startswith("@"):
            group = info.group(name[1:], section.key["profile"])
            tasks = [
                t for t in group.tasks if not group.if_they_count or _verdict(section, t, info)
            ]
            found += tasks
            remarks |= dict.fromkeys([group.remark] if tasks and group.remark else [])
        else:
            found.append(name)
    return tuple(found) or ("none",), list(remarks)  # an empty tuple would mean all tasks


def undecided(names: Sequence[str], section: Section, info: ReportInfo) -> list[str]:
    """Return the tasks of the groups in `names` that have runs and may count: not known yet."""
    groups = [info.group(name[1:], section.key["profile"]) for name in names if name[:1] == "@"]
    begun = {run.task for run in section.runs}
    return [
        task
        for group in groups
        for task in group.tasks
        if group.if_they_count and task in begun and _verdict(section, task, info) is None
    ]


def _verdict(section: Section, task: str, info: ReportInfo) -> bool | None:
    control = info.control
    return None if control is None else counts(section, score_column(info, task), control)
