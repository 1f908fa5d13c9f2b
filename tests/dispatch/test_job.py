"""A worker of a submission, in a process of its own; the tiny experiment of the Slurm tests."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from experiments.dispatch import code_snapshot, submission
from experiments.dispatch.submission import Group, Submission
from experiments.dispatch.worker import name_of
from experiments.harness import stored
from tests.slurm.faulty.tiny import experiment as tiny

PLAN = tiny.plan("spoilt", "cpu")


@pytest.fixture
def submitted(tmp_path: Path, repository: Path) -> Submission:
    submitted = Submission(
        folder=tmp_path / "runs" / "submissions" / "one",
        executor="local",
        experiment="tiny",
        profile="spoilt",
        device="cpu",
        out=str(tmp_path / "out"),
        snapshot=code_snapshot.take_snapshot(repository, tmp_path / "runs").digest,
        git=None,
        groups=(Group(tuple(map(name_of, PLAN)), 1),),
    )
    (submitted.folder / submission.LOGS).mkdir(parents=True)
    submitted.write()
    return submitted


def work(submitted: Submission, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-u", "-m", "experiments.dispatch.job", str(submitted.folder), "0"],
        cwd=submitted.runs_root,
        env=os.environ
        | submitted.environment()
        | {"ZIA_EXPERIMENTS": "tests.slurm.faulty"}
        | variables,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def states(submitted: Submission) -> list[str]:
    return [stored.read_status(submitted.runs_root / name_of(spec))["state"] for spec in PLAN]


def test_after_an_error_of_the_gpu_another_process_does_the_rest_but_not_for_ever(
    submitted: Submission,
) -> None:
    done = work(submitted)
    assert states(submitted) == [
        *("failed", "done", "failed", "failed", "failed", "pending"),
    ], done.stdout
    assert done.stdout.count("restarting for the next run") == 3
    # Each new process knows what the one before it has seen.
    assert "1 done, 4 failed, 1 left; 0 done here; stopped, since 3 consecutive runs" in done.stdout
    assert done.returncode == 1
    first, second = (stored.read_status(submitted.runs_root / name_of(spec)) for spec in PLAN[:2])
    assert second["attempts"][0]["pid"] == first["attempts"][0]["pid"]
    code_snapshot.check(submitted.code)  # four processes have run it


def test_a_worker_refuses_code_that_is_not_what_was_submitted(
    submitted: Submission, repository: Path
) -> None:
    """The checkout, for the folder of the copy does not stand in the path; then a file too many."""
    refused = work(submitted, PYTHONPATH=str(repository))
    sentence = f"imported from {repository}/zia_core instead of {submitted.code}: check what sets"
    assert sentence in refused.stdout
    (submitted.code / "sitecustomize.py").write_text("print('run unnoticed')\n")
    changed = work(submitted)
    assert f"changed after it was copied, most recently {submitted.snapshot}/sitecustomize.py" in (
        changed.stdout
    )
    for each in (refused, changed):
        assert each.returncode == 1
        assert "Traceback" not in each.stdout
    assert states(submitted) == ["pending"] * len(PLAN)
    assert not list(submitted.runs_root.glob("tiny/*/attempts*"))
