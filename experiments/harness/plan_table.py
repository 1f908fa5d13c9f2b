"""The table of `zia plan`: a line a run; in a large plan, a line for all of a method and task."""

from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from experiments.harness import terminal
from experiments.harness.plan import PlannedRun
from experiments.harness.status import IDENTITY_SHOWN, run_name

COLUMNS = ("run", "id", "state", "hours", "GB", "source")
GROUP_COLUMNS = ("method", "task", "runs", "state", "hours", "GB", "source")
LISTED = 60  # runs up to which each has its line


def show(runs: Sequence[PlannedRun], *, every_run: bool = False) -> None:
    """Print the planned runs with their states and expected costs, and what is left to do.

    `every_run` gives each its line however many there are.
    """
    output = terminal.console()
    grouped = len(runs) > LISTED and not every_run
    for (experiment, profile), part in groupby(
        runs, key=lambda run: (run.spec.experiment, run.spec.profile)
    ):
        output.print(f"{experiment}, profile {profile}\n")
        if grouped:
            output.print(terminal.Table(GROUP_COLUMNS, _grouped(list(part))))
        else:
            output.print(terminal.Table(COLUMNS, [_row(run) for run in part]))
        output.print()
    output.print(_summary(runs))
    if grouped:
        output.print("hours are of all runs of a line; --every-run gives each run its own")


def _row(run: PlannedRun) -> list[str]:
    return [
        run_name(run.spec.method, run.spec.task, run.spec.seed),
        run.spec.identity[:IDENTITY_SHOWN],
        run.state,
        terminal.number(run.estimate.hours, ".2f"),
        terminal.number(run.estimate.memory_gb, ".1f"),
        run.estimate.source,
    ]


def _grouped(runs: Sequence[PlannedRun]) -> list[list[str]]:
    groups: dict[tuple[str, str], list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault((run.spec.method, run.spec.task), []).append(run)
    rows = []
    for (method, task), group in groups.items():
        hours = [run.estimate.hours for run in group if run.estimate.hours is not None]
        memory = [run.estimate.memory_gb for run in group if run.estimate.memory_gb is not None]
        rows.append(
            [
                method,
                task,
                str(len(group)),
                _states(group),
                terminal.number(sum(hours) if len(hours) == len(group) else None, ".2f"),
                terminal.number(max(memory, default=None), ".1f"),
                ", ".join(dict.fromkeys(run.estimate.source for run in group)),
            ]
        )
    return rows


def _states(runs: Sequence[PlannedRun]) -> str:
    return ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in runs).items())


def _summary(runs: Sequence[PlannedRun]) -> str:
    """For example "3 planned: 1 done, 2 missing; 0.40 hours to go"."""
    if not runs:
        return "nothing is planned for this profile yet"
    hours = [run.estimate.hours for run in runs if run.state != "done"]
    left = [f"{sum(filter(None, hours)):.2f} hours to go"] if any(hours) else []
    if unknown := hours.count(None):
        left.append(f"{unknown} of unknown length")
    return "; ".join([f"{len(runs)} planned: {_states(runs)}", *left])
