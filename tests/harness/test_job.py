"""A worker of a submission, in a process of its own; the tiny experiment of the Slurm tests."""

import os
import subprocess
import sys
from pathlib import Path

from experiments.harness import stored, submission
from experiments.harness.submission import Group, Submission
from experiments.harness.worker import name_of
from tests.slurm.faulty.tiny import experiment as tiny

PLAN = tiny.plan("spoilt", "cpu")


def test_after_an_error_of_the_gpu_another_process_does_the_rest_but_not_for_ever(
    tmp_path: Path, repository: Path
) -> None:
    submitted = Submission(
        folder=tmp_path / "runs" / "submissions" / "one",
        executor="local",
        experiment="tiny",
        profile="spoilt",
        device="cpu",
        out=str(tmp_path / "out"),
        snapshot="none",
        git=None,
        groups=(Group(tuple(map(name_of, PLAN)), 1),),
    )
    (submitted.folder / submission.LOGS).mkdir(parents=True)
    submitted.write()
    done = subprocess.run(
        [sys.executable, "-u", "-m", "experiments.harness.job", str(submitted.folder), "0"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository), "ZIA_EXPERIMENTS": "tests.slurm.faulty"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    statuses = [stored.read_status(submitted.runs_root / name_of(spec)) for spec in PLAN]
    states = [status["state"] for status in statuses]
    assert states == ["failed", "done", "failed", "failed", "failed", "pending"], done.stdout
    assert done.stdout.count("starting again with the next run") == 3
    # Each new process knows what the one before it has seen.
    assert "1 done, 4 failed, 1 left; 0 done here; stopped, since 3 runs in a row" in done.stdout
    assert done.returncode == 1
    assert statuses[1]["attempts"][0]["pid"] == statuses[0]["attempts"][0]["pid"]
