"""The table of `zia plan`: a line per run; in large plans, per method and task."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace
from itertools import groupby

from experiments.dispatch.status_table import IDENTITY_SHOWN, run_name
from experiments.harness.experiment import Estimate
from experiments.harness.gpus import GPUS
from experiments.harness.plan import PlannedRun
from experiments.harness.registry import check_choice
from experiments.io import terminal

COLUMNS = ("run", "id", "state", "time", "GB")
STATES = ("done", "running", "interrupted", "preempted", "pending", "failed", "invalid", "missing")
LISTED = 60  # most runs to list one by one


def on_gpu(
    runs: Sequence[PlannedRun], gpu: str, utilisation: float, gpus: int = 1
) -> list[PlannedRun]:
    """The runs with their predicted costs for that GPU; InvalidChoiceError if it is unknown.

    `gpus` are those of a job that trains in shards.
    """
    check_choice("GPU", gpu, GPUS)
    return [
        replace(run, estimate=run.estimate.over(gpus).on(GPUS[gpu], utilisation)) for run in runs
    ]


def show(runs: Sequence[PlannedRun], *, every_run: bool = False) -> None:
    """Print planned runs with states and expected costs, and what is left to do.

    `every_run` lists each run even in a large plan.
    """
    output = terminal.console()
    grouped = len(runs) > LISTED and not every_run
    for (experiment, profile), group in groupby(
        runs, key=lambda run: (run.spec.experiment, run.spec.profile)
    ):
        part = list(group)
        output.print(f"{experiment}, profile {profile}\n")
        if grouped:
            there = {run.state for run in part}
            states = [state for state in STATES if state in there]
            columns = ("run", *states, "time", "GB")
            output.print(terminal.Table(columns, _grouped(part, states)))
        else:
            output.print(terminal.Table(COLUMNS, [_row(run) for run in part]))
        output.print(f"time and GB: {_sources(part)}\n", soft_wrap=False)
    output.print(_summary(runs))
    if grouped:
        output.print("times are totals per line; --every-run lists each run")


def _row(run: PlannedRun) -> list[str]:
    return [
        run_name(run.spec.method, run.spec.task, run.spec.seed),
        run.spec.identity[:IDENTITY_SHOWN],
        run.state,
        _time(run.estimate.hours),
        _memory([run.estimate]),
    ]


def _grouped(runs: Sequence[PlannedRun], states: Sequence[str]) -> list[list[str]]:
    groups: dict[str, list[PlannedRun]] = {}
    for run in runs:
        groups.setdefault(f"{run.spec.method} {run.spec.task}", []).append(run)
    rows = []
    for name, group in groups.items():
        counts = Counter(run.state for run in group)
        hours = [run.estimate.hours for run in group if run.estimate.hours is not None]
        rows.append(
            [
                name,
                *(str(counts[state] or "-") for state in states),
                _time(sum(hours) if len(hours) == len(group) else None),
                _memory([run.estimate for run in group]),
            ]
        )
    return rows


def _memory(estimates: Sequence[Estimate]) -> str:
    """The most of all, for example "24.0", or "4 x 45.9" on each of four GPUs."""
    most = max(estimates, key=lambda each: each.memory_gb or 0.0)
    number = terminal.number(most.memory_gb, ".1f")
    return f"{most.gpus} x {number}" if most.gpus > 1 else number


def _sources(runs: Sequence[PlannedRun]) -> str:
    """Where the costs come from, by method if that differs."""
    methods: dict[str, dict[str, None]] = {}
    for run in runs:
        methods.setdefault(run.estimate.source, {})[run.spec.method] = None
    if len(methods) == 1:
        return next(iter(methods))
    return "; ".join(f"{source} ({', '.join(of)})" for source, of in methods.items())


def _time(hours: float | None) -> str:
    return terminal.duration(None if hours is None else 3600 * hours)


def _states(runs: Sequence[PlannedRun]) -> str:
    return ", ".join(f"{n} {state}" for state, n in Counter(run.state for run in runs).items())


def _summary(runs: Sequence[PlannedRun]) -> str:
    """For example "3 planned: 1 done, 2 missing; 0:24:00 to go, one after another"."""
    if not runs:
        return "nothing is planned for this profile yet"
    hours = [run.estimate.hours for run in runs if run.state != "done"]
    left = [f"{_time(sum(filter(None, hours)))} to go, one after another"] if any(hours) else []
    if unknown := hours.count(None):
        left.append(f"{unknown} of unknown length")
    return "; ".join([f"{len(runs)} planned: {_states(runs)}", *left])
