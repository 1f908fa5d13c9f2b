"""A grid of runs that `zia reproduce --executor slurm` has done, and what became of it."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.dispatch import in_process
from experiments.dispatch.worker import name_of
from experiments.harness import registry, stored
from experiments.harness.ownership import OWNER
from experiments.harness.spec import RunSpec
from tests.slurm import few_steps
from tests.slurm.cluster import Slurm, wait_until
from tests.slurm.faulty.tiny import experiment as tiny

PROJECT = Path(__file__).parents[2]
ZIA = (sys.executable, "-u", "-c", "from experiments.cli.main import main; main()")
PATIENCE_S = 600.0  # for whatever takes a second on a quiet machine

QUICK_S, SLOW_S = 0.3, 3.0  # a step: on the way to the place of a fault, and then

# What makes a run what it is; status and timing tell how it came about.
PRODUCTS = (stored.METRICS, stored.PREDICTIONS, stored.ADAPTER)


@dataclass(frozen=True)
class Work:
    """What `zia reproduce` is to do, and the runs that this is."""

    package: str  # of experiments, in $ZIA_EXPERIMENTS
    arguments: tuple[str, ...]  # of `zia reproduce`
    specs: tuple[RunSpec, ...]


def tiny_work(profile: str) -> Work:
    """One profile of the tiny experiment."""
    arguments = ("tiny", "--profile", profile)
    return Work("tests.slurm.faulty", arguments, tuple(tiny.plan(profile, "cpu")))


def five_experiments() -> Work:
    """The five real experiments on the generated world, with their pocket backbones."""
    arguments = ("--profile", few_steps.PROFILE)
    return Work("tests.slurm.reduced", arguments, tuple(few_steps.plan()))


class Grid:
    """The runs of some work in a folder of runs of their own."""

    def __init__(self, slurm: Slurm, folder: Path, work: Work, **resources: Any) -> None:
        self.slurm, self.folder, self.work = slurm, folder, work
        self.runs, self.specs = folder / "runs", work.specs
        folder.mkdir(parents=True, exist_ok=True)
        asked = {"cpus_per_task": 1, "mem_gb": 1, "timeout_min": 20, "workers": 1} | resources
        if slurm.partition:
            asked["partition"] = slurm.partition
        # JSON's numbers, texts and lists are TOML's.
        lines = [f"{key} = {json.dumps(value)}\n" for key, value in asked.items()]
        (folder / "cluster.toml").write_text("".join(lines))
        self.pace(0)

    def pace(self, seconds: float) -> None:
        """Have each step of the runs, if they are tiny, rest for so long, from now on."""
        new = self.folder / "pace.new"
        new.write_text(str(seconds))
        new.replace(self.folder / "pace")

    def frozen(self, pid: int) -> Path:
        """The file that, while it exists, keeps a process in the middle of its step."""
        return self.folder / f"frozen-{pid}"

    def zia(self, *arguments: str) -> subprocess.Popen[str]:
        """Start `zia` with the arguments."""
        return subprocess.Popen(
            [*ZIA, *arguments],
            cwd=PROJECT,
            env={**os.environ, **self.slurm.environment, **self._variables()},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def _variables(self) -> dict[str, str]:
        return {
            "PYTHONPATH": str(PROJECT),
            registry.OUTSIDE: self.work.package,
            tiny.PACE: str(self.folder),
        }

    def reproduce(self, *options: str) -> subprocess.Popen[str]:
        """Start `zia reproduce` on the cluster."""
        return self.zia(*self._what(self.folder, *self._on_slurm(), *options))

    def shell_line(self) -> str:
        """The same command for a shell anywhere in the cluster."""
        variables = [f"{name}={value}" for name, value in self._variables().items()]
        words = ["env", *variables, *ZIA, *self._what(self.folder, *self._on_slurm())]
        return f"cd {shlex.quote(str(PROJECT))} && {shlex.join(words)}"

    def _on_slurm(self) -> Sequence[str]:
        return ("--executor", "slurm", "--cluster", str(self.folder / "cluster.toml"))

    def reproduce_undisturbed(self, folder: Path) -> subprocess.Popen[str]:
        """Start `zia reproduce` of the same in one process, in another folder."""
        return self.zia(*self._what(folder, "--executor", "inprocess"))

    def _what(self, folder: Path, *options: str) -> list[str]:
        places = ["--runs", str(folder / "runs"), "--out", str(folder / "out")]
        return ["reproduce", *self.work.arguments, "--device", "cpu", *places, *options]

    def submit(self, *options: str) -> str:
        """Do `zia reproduce` on the cluster; return what it says."""
        process = self.reproduce(*options)
        said, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode in (0, 1), said
        return said

    def jobs(self) -> list[str]:
        """The ids of this grid's jobs that have not ended, of array elements one by one."""
        names = {path.parent.name for path in self.runs.glob("submissions/*/submission.json")}
        lines = self.slurm.command(
            "squeue", "--noheader", "--array", "--format=%i|%j", *self._mine()
        ).splitlines()
        found = [line.split("|") for line in lines]
        return [job for job, called in found if any(name in called for name in names)]

    def _mine(self) -> Sequence[str]:
        return ("--user", str(os.getuid()))

    def cancel(self) -> None:
        """End all jobs of the grid."""
        if jobs := self.jobs():
            self.slurm.command("scancel", "--signal=KILL", "--full", *jobs, check=False)
            self.slurm.command("scancel", *jobs, check=False)

    # The runs

    def path(self, number: int) -> Path:
        return self.runs / name_of(self.specs[number])

    def status(self, number: int) -> dict[str, Any]:
        return stored.read_status(self.path(number))

    def state(self, number: int) -> str:
        return str(self.status(number)["state"])

    def attempts(self, number: int) -> list[dict[str, Any]]:
        return list(self.status(number)["attempts"])

    def owner(self, number: int) -> int:
        """The highest owner number of a run; 0 if nobody has claimed it."""
        return max((int(p.stem) for p in self.path(number).glob(f"{OWNER}/*.json")), default=0)

    def step(self, number: int) -> int:
        """The newest step in the metrics of a run; -1 if there is none."""
        log = self.path(number) / stored.METRICS
        steps = [record["step"] for record in _whole_lines(log)]
        return steps[-1] if steps else -1

    def is_done(self) -> bool:
        self.slurm.release(self.jobs())
        return all(
            stored.is_done(self.path(i), registry.get(spec.experiment).result_fields)
            for i, spec in enumerate(self.specs)
        )

    def reach(self, number: int, step: int) -> None:
        """Wait until a run has just done a step, and slow it down from there."""
        wait_until(lambda: self.step(number) >= step, PATIENCE_S, f"step {step}", self.story)
        self.pace(SLOW_S)

    def wait_until_done(self) -> None:
        self.pace(0)
        wait_until(self.is_done, PATIENCE_S, "all runs are done", self.story)

    def logs(self) -> str:
        """What the jobs have printed."""
        files = sorted(self.runs.glob("submissions/*/logs/*.out"))
        return "\n".join(log.read_text(errors="replace") for log in files)

    def story(self) -> str:
        """What there is to read about the grid, for a failing test."""
        states = [path.read_text() for path in self.runs.glob(f"*/*/{stored.STATUS}")]
        queue = self.slurm.command("squeue", "--array", check=False)
        return "\n".join([queue, *states, self.logs()[-6000:]])


def undisturbed(work: Work, folder: Path) -> Path:
    """Do the runs in this process; return their folder of runs."""
    in_process.run_all(work.specs, folder)
    return folder


def differences(grid: Grid, reference: Path, only: Sequence[int] | None = None) -> list[str]:
    """The files of the grid's runs that are not, byte for byte, those of undisturbed runs."""
    return [
        str(grid.path(i) / name)
        for i in (range(len(grid.specs)) if only is None else only)
        for name in PRODUCTS
        if (grid.path(i) / name).read_bytes()
        != (reference / name_of(grid.specs[i]) / name).read_bytes()
    ]


def contents(run: Path) -> set[str]:
    """The files of a run but for who owned it when."""
    files = (str(path.relative_to(run)) for path in run.rglob("*"))
    return {name for name in files if not name.startswith(f"{OWNER}/")}


def done_twice(grid: Grid) -> list[str]:
    """Runs that were finished by more than one attempt, or have a step more than once."""
    found = []
    for i in range(len(grid.specs)):
        ends = [attempt["end"] for attempt in grid.attempts(i)]
        steps = [r["step"] for r in _whole_lines(grid.path(i) / stored.METRICS) if "loss" in r]
        if ends.count("done") > 1 or len(set(steps)) < len(steps):
            found.append(str(grid.path(i)))
    return found


def _whole_lines(log: Path) -> list[dict[str, Any]]:
    text = log.read_text() if log.exists() else ""
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]
