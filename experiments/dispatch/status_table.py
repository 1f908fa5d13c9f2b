"""The table of `zia status`, read from the run folders each time."""

import time
from collections import Counter
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path
from typing import Any

from experiments.dispatch.active_jobs import ActiveJobs
from experiments.harness import run_paths, stored
from experiments.harness.stored import StoredRun, current_state
from experiments.io import terminal
from experiments.io.output import one_line
from zia_core.errors import ZiaError

IDENTITY_SHOWN = 8  # digits: enough to find the folder by
REFRESH_S = 2.0
COLUMNS = ("run", "id", "state", "step", "loss", "ETA", "host")


def run_name(method: str, task: str, seed: int) -> str:
    """The name of a run in tables, beside the first digits of its identity."""
    return f"{method} {task} s{seed}"


def show(runs: Path, *, watch: bool) -> None:
    """Print the table of all runs once, or (`watch`) redraw it in the terminal until Ctrl-C.

    Raises ZiaError, after the table, if a run folder is corrupt.
    """
    output = terminal.console()
    if watch:
        if not output.is_terminal:
            raise ZiaError("status --watch needs a terminal; leave --watch out")
        _redraw(runs)
    drawn, problems = _tables(runs, ActiveJobs(runs))
    output.print(drawn)
    if problems:
        raise ZiaError("; ".join(problems))


def _redraw(runs: Path) -> None:
    from rich.console import Group
    from rich.live import Live

    try:
        jobs = ActiveJobs(runs)
        with Live(console=terminal.console(), screen=True, auto_refresh=False) as live:
            while True:
                drawn, problems = _tables(runs, jobs)
                live.update(Group(drawn, *problems), refresh=True)
                time.sleep(REFRESH_S)
    except KeyboardInterrupt:
        return


def _tables(runs: Path, jobs: ActiveJobs) -> tuple[Any, list[str]]:
    """One table per experiment and profile, and a sentence per corrupt folder."""
    from rich.console import Group

    readable, problems = [], []
    for path in run_paths.every_run(runs).values():
        try:
            readable.append(stored.load(path))
        except ZiaError as error:
            problems.append(str(error))
    parts: list[Any] = []
    for title, group in groupby(sorted(readable, key=_title), key=_title):
        members = list(group)
        parts += [title, "", terminal.Table(COLUMNS, [_row(run) for run in members]), ""]
        parts += _reasons(members)
    parts += [str(work) for work in jobs.current()]
    if jobs.slurm_answers and not jobs.current():
        parts += _abandoned(readable)
    if not parts and not problems:
        parts = [f"no runs in {runs}"]
    return Group(*parts), problems


def _abandoned(runs: list[StoredRun]) -> Iterator[str]:
    states = Counter(current_state(run.path) for run in runs if run.state not in ("done", "failed"))
    if states and "running" not in states:
        yield (f"nobody works on {states.total()} unfinished runs: `zia reproduce` continues them")


def _title(run: StoredRun) -> str:
    return one_line(f"{run.config['experiment']}, profile {run.config['profile']}")


def _row(run: StoredRun) -> list[str]:
    progress, attempts = run.status["progress"], run.status["attempts"]
    state = current_state(run.path)
    return [
        run_name(run.config["method"], run.config["task"], run.config["seed"]),
        run.path.name.rpartition("-")[2][:IDENTITY_SHOWN],
        state,
        f"{progress['step']}/{progress['total']}" if progress else "-",
        terminal.number(progress.get("loss"), ".4f"),
        terminal.duration(progress.get("eta_s") if state == "running" else None),
        attempts[-1]["host"] if attempts else "-",
    ]


def _reasons(runs: list[StoredRun]) -> Iterator[str]:
    for run in runs:
        if run.state == "failed":
            yield one_line(f"failed: {run.path.name}: {run.status['reason']}")
