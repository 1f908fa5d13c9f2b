"""Stages of a plan: first, one seed of what is not left for later; then all of it.

A stage is a set of runs, never a time limit, so its results do not depend on the machine's speed.
"""

import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory

from experiments.harness import plan, registry, run_paths, stored
from experiments.harness.archive import ArchivedRun, RunPath
from experiments.harness.spec import RunSpec
from experiments.harness.unpacking import unpack
from experiments.io.files import write_errors

SEEDS = ("first", "all")


@dataclass(frozen=True)
class Stage:
    """Which runs of a plan are done."""

    seeds: str = "all"  # one of `SEEDS`
    reselect: bool = False  # redo the runs that rates and lengths are chosen from

    def of(self, specs: Sequence[RunSpec]) -> list[RunSpec]:
        """Return the runs of the stage, each after those it requires."""
        first: dict[str, RunSpec] = {}
        for spec in specs:
            if not is_choice(spec) and not is_later(spec):
                first.setdefault(replace(spec, seed=0).identity, spec)
        wanted = set(map(id, first.values()))
        chosen = [
            spec
            for spec in specs
            if (self.reselect if is_choice(spec) else self.seeds == "all" or id(spec) in wanted)
        ]
        return plan.with_requirements(chosen)


def is_later(spec: RunSpec) -> bool:
    """Whether the first stage leaves the run out, whatever its seed."""
    experiment = registry.get(spec.experiment)
    return spec.method in experiment.follow_ups or experiment.later(spec)


def _copied(run: RunPath, folder: Path) -> Path:
    if isinstance(run, ArchivedRun):
        return unpack(run, folder)  # nothing is gathered elsewhere first: the disk may be full
    return shutil.copytree(run, folder / run.name)


def _temporary_beside(target: Path) -> TemporaryDirectory[str]:
    target.parent.mkdir(parents=True, exist_ok=True)
    return TemporaryDirectory(prefix=".copying-", dir=target.parent)


def is_choice(spec: RunSpec) -> bool:
    """Whether the run is scored on held-out data only, for a rate or a length to be chosen."""
    return bool(getattr(spec.settings, "phase", "final") != "final")


def take_choices(specs: Sequence[RunSpec], published: Path, runs_root: Path) -> int:
    """Copy the published runs that choose, where `runs_root` lacks them; return how many.

    They are evidence like any other: `zia verify` checks them, and a final run refuses one that was
    made with other data or weights.
    """
    there = run_paths.every_run(published)
    copied = 0
    for spec in filter(is_choice, specs):
        name = f"{spec.experiment}/{spec.folder_name}"
        target = runs_root / name
        if target.exists() or name not in there:
            continue
        stored.load_sealed(there[name])
        with write_errors(target), _temporary_beside(target) as temporary:
            whole = _copied(there[name], Path(temporary))
            try:
                whole.rename(target)
            except OSError:
                if not target.exists():
                    raise
                continue  # another process was faster
        copied += 1
    return copied
