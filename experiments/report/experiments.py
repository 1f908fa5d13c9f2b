"""What experiments say of themselves, and the runs of theirs that are reported."""

import json
from collections.abc import Collection, Iterable, Iterator
from dataclasses import replace

from experiments.harness import registry
from experiments.harness.report_info import ReportInfo, SharedTraining
from experiments.io.files import canonical_json
from experiments.report import formats
from experiments.report.rows import SECTION_OF_TASKS, Column, Section, sections
from experiments.report.run import Run
from experiments.report.runs import Runs, select


def report_infos() -> dict[str, ReportInfo]:
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
    if_there: Collection[str] = (),
) -> list[Run]:
    """Return the runs of an experiment whose results are reported; arguments as of `select`."""
    needed = dict.fromkeys((*fields, *info.trained.fields))
    required = [name for name in needed if name not in if_there]
    both = {f"{info.shared.prefix}{name}" for name in (*needed, *if_there)} if info.shared else ()
    found = select(runs, experiment, required, {*if_there, *both} - set(required))
    if shared := info.shared:
        found += [_as_shared(run, shared) for run in found if run.settings.get(shared.setting)]
    return [run for run in found if info.is_final(run.task, run.settings)]


def _as_shared(run: Run, shared: SharedTraining) -> Run:
    """The run as that of the other task which it stands for."""
    prefix = shared.prefix
    scores = {name: run.result[prefix + name] for name in run.result if prefix + name in run.result}
    settings = {**run.settings, shared.setting: False, **shared.settings}
    data = json.loads(run.inputs.get("data", "{}"))
    # What the other scores are of is recorded under its own name.
    read = {name: digest for name, digest in data.items() if not name.endswith("-scored")}
    inputs = {**run.inputs, "data": canonical_json(read)}
    return replace(
        run, task=shared.task, settings=settings, result={**run.result, **scores}, inputs=inputs
    )


def lines(info: ReportInfo, name: str, runs: Iterable[Run]) -> list[Run]:
    """Return the runs as the lines `name` of the experiment, each with the name of its line."""
    return [replace(run, line=line) for run, line in info.lines[name](list(runs))]


def all_scored_sections(runs: Runs) -> Iterator[tuple[str, ReportInfo, Section]]:
    """Yield the scored sections of all experiments, with the name of each."""
    for experiment, info in report_infos().items():
        for section in scored_sections(runs, experiment, info):
            yield experiment, info, section


def scored_sections(runs: Runs, experiment: str, info: ReportInfo) -> list[Section]:
    """Return the final runs that have a score, in sections of several tasks."""
    found = final_runs(runs, experiment, info, (info.score.field, "tuned_parameters"))
    scored = [run for run in found if not info.score.tasks or run.task in info.score.tasks]
    return [s for s in sections(scored, (), SECTION_OF_TASKS, info.trained) if s.key]


def score_column(info: ReportInfo, *tasks: str) -> Column:
    """Return the score of an experiment as a column, averaged over the tasks."""
    score = info.score
    return Column(score.field, score.title, "", formats.number, scale=score.scale, tasks=tasks)


def tasks_of(section: Section, info: ReportInfo) -> list[str]:
    """Return the tasks that have runs, in the order of the experiment's titles."""
    seen = {run.task for row in section.rows for run in row.runs}
    return [task for task in info.task_titles if task in seen] + sorted(
        seen - info.task_titles.keys()
    )
