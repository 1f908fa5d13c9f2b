"""The experiments that describe themselves to the report, and their final runs."""

from collections.abc import Iterable
from dataclasses import replace
from typing import Any

from experiments.harness import registry
from experiments.harness.report_info import ReportInfo
from experiments.report.rows import SECTION_OF_TASKS, Section, sections
from experiments.report.runs import Run, Runs, select


def described() -> dict[str, ReportInfo]:
    """Return what each registered experiment says of itself, by name."""
    return {
        name: experiment.report
        for name, experiment in registry.experiments().items()
        if experiment.report
    }


def final_runs(
    runs: Runs,
    experiment: str,
    info: ReportInfo,
    fields: Iterable[str],
    if_there: Iterable[str] = (),
) -> list[Run]:
    """Return the runs of an experiment whose results are reported.

    Args:
        fields: of their results; ZiaError names a file that lacks one of them.
        if_there: further fields, which results of older runs do not have.
    """
    newer: dict[str, Any] = dict.fromkeys(if_there, float | None)
    needed: dict[str, Any] = dict.fromkeys((*fields, *info.trained.fields), float | None)
    kept = {name: kind for name, kind in needed.items() if name not in newer}
    found = select(runs, experiment, kept, newer=newer)
    return [run for run in found if info.is_final(run.task, run.settings)]


def lines(info: ReportInfo, name: str, runs: Iterable[Run]) -> list[Run]:
    """Return the runs that are lines of the tables with these lines."""
    return [replace(run, line=line) for run, line in info.lines[name](list(runs))]


def scored_sections(runs: Runs, experiment: str, info: ReportInfo) -> list[Section]:
    """Return the runs that have a score, by profile, backbone, data and version."""
    found = final_runs(runs, experiment, info, (info.score.field, "tuned_parameters"))
    scored = [run for run in found if not info.score.tasks or run.task in info.score.tasks]
    return [s for s in sections(scored, (), SECTION_OF_TASKS, info.trained) if s.key]


def tasks_of(section: Section, info: ReportInfo) -> list[str]:
    """Return the tasks that have runs, in the order of the experiment's titles."""
    seen = {run.task for row in section.rows for run in row.runs}
    return [task for task in info.task_titles if task in seen] + sorted(
        seen - info.task_titles.keys()
    )
