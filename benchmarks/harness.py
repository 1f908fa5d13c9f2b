"""Overhead of the harness: per run, step and checkpoint; the command line; thousands of runs.

    python -m benchmarks.harness --out FILE.json

Runs are of the toy experiment `nothing`, which takes no time of its own.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import count
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks import command
from benchmarks.measure import Part, interleaved, part, record
from benchmarks.toys.nothing.experiment import Settings, spec
from experiments.dispatch import in_process
from experiments.harness import plan, registry, run_paths, seal, stored, unpacking
from experiments.harness.archive import Archive, ArchivedRun
from experiments.harness.provenance import PROJECT
from experiments.harness.spec import RunSpec
from experiments.io.files import read_json, write_json_atomic
from experiments.report.tables.write import write_tables
from zia_core.errors import ZiaError

ROUNDS = 7
EMPTY = "a run without steps"
TABLES = "all tables"
PUBLISHED = PROJECT / "results/published"
PUBLISHED_RUNS = "published runs, for comparison"


@dataclass(frozen=True)
class Shape:
    """The amount recorded, and the number of runs planned and reported."""

    steps: int = 1000
    checkpoints: int = 10  # of an adapter of 1.2M parameters and AdamW's two moments, 14.8 MB
    runs: int = 2000


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Measure everything in a temporary folder, on the disk of temporary folders."""
    with TemporaryDirectory() as folder, toy_is_known():
        root = Path(folder)
        parts = {
            "a run": _one_run(shape, root / "one", rounds),
            PUBLISHED_RUNS: _published_runs(),
            "the command line": _start_up(rounds),
            f"{shape.runs:,} runs": _many_runs(shape, root / "many", rounds),
        }
    return record("harness", shape, parts)


def _one_run(shape: Shape, runs: Path, rounds: int) -> Part:
    seeds = count()
    kinds = {
        EMPTY: Settings(),
        "with steps": Settings(steps=shape.steps),
        "with checkpoints": Settings(checkpoints=shape.checkpoints),
    }

    def call(settings: Settings) -> Callable[[], None]:
        def run() -> None:
            outcome = in_process.run_one(spec(next(seeds), settings), runs)
            if outcome.state != "done":
                raise ZiaError(f"the run of nothing ended as {outcome.state}: {outcome.reason}")

        return run

    figures = {
        name: {"steps": settings.steps, "checkpoints": settings.checkpoints}
        for name, settings in kinds.items()
    }
    calls = {name: call(settings) for name, settings in kinds.items()}
    return part(interleaved(calls, rounds, warmup=1), EMPTY, figures=figures)


def _published_runs() -> Part:
    """Times of steps in small published runs, without evaluations and checkpoints.

    For each profile and backbone, it is zero-init's run on instructions with the shortest training.
    """
    figures: dict[str, dict[str, float]] = {}
    for run in map(stored.load_sealed, _published()):
        name = f"{run.config['profile']}: zero-init on {run.config['backbone']}"
        seconds = run.result["train_seconds"]
        if name not in figures or seconds < figures[name]["training seconds"]:
            figures[name] = {"steps": run.result["steps"], "training seconds": seconds}
    return part({}, next(iter(figures)), figures=figures)


def _start_up(rounds: int) -> Part:
    nothing, program = "python -c pass", "from experiments.cli.main import main; main()"

    def call(*arguments: str) -> Callable[[], None]:
        def run() -> None:
            subprocess.run(
                [sys.executable, *arguments], cwd=PROJECT, check=True, stdout=subprocess.DEVNULL
            )

        return run

    calls = {
        nothing: call("-c", "pass"),
        "zia --help": call("-c", program, "--help"),
        "zia list": call("-c", program, "list"),
    }
    return part(interleaved(calls, rounds, warmup=1), nothing)


def _many_runs(shape: Shape, root: Path, rounds: int) -> Part:
    """Time a plan before and after its runs, and all tables from as many published runs."""
    specs = [spec(seed, Settings()) for seed in range(shape.runs)]
    in_process.run_one(specs[0], root / "first")
    _copies(root / "first" / specs[0].experiment / specs[0].folder_name, specs, root / "done")
    source = unpacking.unpack(_published()[0], root / "evidence")
    settings = registry.get("alpaca_llama").settings
    run = RunSpec.from_json(read_json(source / stored.CONFIG), settings)
    _copies(source, [replace(run, seed=seed) for seed in range(shape.runs)], root / "published")

    def states(runs: Path, expected: str) -> Callable[[], None]:
        def look() -> None:
            found = {plan.inspect(one, runs).state for one in specs}
            if found != {expected}:
                raise ZiaError(f"the runs of nothing are {', '.join(found)}, not {expected}")

        return look

    missing = "plan, all missing"
    calls: dict[str, Callable[[], object]] = {
        missing: states(root / "none", "missing"),
        "plan, all done": states(root / "done", "done"),
        TABLES: lambda: write_tables([root / "published"], root / "tables"),
    }
    return part(interleaved(calls, min(rounds, 3), warmup=1), missing, work={"runs": shape.runs})


def _published() -> list[ArchivedRun]:
    """Zero-init's published runs on instructions; at least one."""
    return published_runs("alpaca_llama", "zero-init-instruct-")


def published_runs(experiment: str, beginning: str) -> list[ArchivedRun]:
    """The published runs of an experiment whose names begin so, at least one."""
    found = [
        run
        for path in run_paths.archives_of(PUBLISHED)
        for run in Archive(path).runs
        if run_paths.run_name(run).startswith(f"{experiment}/{beginning}")
    ]
    if not found:
        raise ZiaError(f"{PUBLISHED} has no run {experiment}/{beginning}...: fetch it")
    return found


def _copies(source: Path, specs: list[RunSpec], runs: Path) -> None:
    """Copy the finished run in `source` as the run of every spec."""
    for one in specs:
        target = runs / one.experiment / one.folder_name
        shutil.copytree(source, target)
        # Not in place: the copy may be read-only, as published files are.
        write_json_atomic(target / stored.CONFIG, one.to_json())
        seal.write(target)


@contextmanager
def toy_is_known() -> Iterator[None]:
    """Let the registry find the toy experiment within the block."""
    before = os.environ.get(registry.OUTSIDE)
    os.environ[registry.OUTSIDE] = ",".join(filter(None, [before, "benchmarks.toys"]))
    registry.experiments.cache_clear()
    try:
        yield
    finally:
        if before is None:
            del os.environ[registry.OUTSIDE]
        else:
            os.environ[registry.OUTSIDE] = before
        registry.experiments.cache_clear()


if __name__ == "__main__":
    command.main("harness")
