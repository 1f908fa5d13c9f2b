"""The stages of a profile as a table: how many runs each has, and how long they take."""

from collections.abc import Sequence

from experiments.harness import plan, registry
from experiments.harness.spec import RunSpec
from experiments.harness.stage import Stage, is_choice
from experiments.report import formats

COMMANDS = {
    "make reproduce": Stage("first"),
    "make reproduce SEEDS=all": Stage("all"),
    "make reproduce SEEDS=all RESELECT=1": Stage("all", reselect=True),
}


def table(profile: str) -> str:
    """Return a line per stage; published choices, which a stage takes as they are, do not count."""
    specs = plan.planned(None, profile, "cpu")
    rows = []
    for command, stage in COMMANDS.items():
        runs = to_do(stage, specs)
        rows.append((f"`{command}`", f"{len(runs):,}", _time(cpu_hours(runs))))
    return formats.markdown_table(("command", "runs", "CPU time"), rows)


def to_do(stage: Stage, specs: Sequence[RunSpec]) -> list[RunSpec]:
    """Return the runs of a stage that begins with the published choices and nothing else."""
    return [spec for spec in stage.of(specs) if stage.reselect or not is_choice(spec)]


def cpu_hours(runs: Sequence[RunSpec]) -> float:
    """Return what `zia plan` counts for these runs; 0 for one of unknown cost."""
    return sum(registry.get(run.experiment).estimate(run).hours or 0 for run in runs)


def _time(hours: float) -> str:
    """As "27 min" or "4 h 38 min"."""
    whole, minutes = divmod(round(60 * hours), 60)
    return f"{whole} h {minutes} min" if whole else f"{minutes} min"
