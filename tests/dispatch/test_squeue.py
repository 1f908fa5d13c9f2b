"""Show and cancel jobs."""

import json
import os
import sys
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.dispatch import active_jobs, final_report, live_view, slurm, status_table
from experiments.dispatch.cluster_file import Cluster
from experiments.dispatch.in_process import run_one
from experiments.dispatch.stop_signals import StopSignals
from experiments.harness import registry
from experiments.harness.process_identity import Process
from tests.dispatch.stand_ins import QUICK, StandIns, queue, request_in, submit
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


def test_status_and_cancel_know_the_jobs(
    tmp_path: Path,
    stand_ins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.answer("squeue", queue(submitted, state="RUNNING"))

    def zia(*words: str) -> tuple[int, str]:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["zia", *words, "--runs", str(tmp_path / "runs")])
        with pytest.raises(SystemExit) as end:
            main.main()
        printed = capsys.readouterr()
        return int(end.value.code or 0), " ".join((printed.out + printed.err).split())

    sentence = f"submission {submitted.name}: 3 runs, job 71: 2 RUNNING"
    assert sentence in zia("status")[1]
    assert zia("cancel", "nonsense")[0] == 2
    assert zia("cancel", submitted.name) == (0, f"cancelled {sentence}")
    assert stand_ins.calls("scancel") == [["71"]]
    stand_ins.refuse("squeue", "slurm_load_jobs error")
    assert zia("status") == (0, f"no runs in {tmp_path}/runs"), "files alone are enough"
    assert zia("cancel")[0] == 1
    (stand_ins.folder / "squeue.refusal").unlink()
    stand_ins.answer("squeue", "")
    assert zia("cancel") == (0, f"nobody works on runs in {tmp_path}/runs")


def test_waiting_does_not_end_because_slurm_does_not_answer(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(active_jobs, "POLL_S", 0.0)
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.refuse("squeue", "slurm_load_jobs error")
    monkeypatch.setattr(active_jobs, "MAX_POLL_S", 0.0)
    goes_on = []

    def follow(names: object, runs: Path, is_going_on: Callable[[], bool], note: object) -> None:
        goes_on.append(is_going_on())
        (stand_ins.folder / "squeue.refusal").unlink()
        stand_ins.answer("squeue", "")
        goes_on.append(is_going_on())

    monkeypatch.setattr(slurm, "submit", lambda request, cluster: submitted)
    monkeypatch.setattr(live_view, "follow", follow)
    monkeypatch.setattr(final_report, "finish", lambda request, submitted: 1)
    assert slurm.reproduce(request_in(tmp_path), Cluster(QUICK), wait=True) == 1
    assert goes_on == [True, False]


def test_status_says_what_to_do_about_runs_that_nobody_works_on(
    tmp_path: Path, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    runs = tmp_path / "runs"
    stop = StopSignals()
    stop.ask("SIGTERM")  # a preemption with a time of grace, or scancel: Slurm forgets the job
    assert run_one(toy.spec(), runs, stop=stop).state == "preempted"
    run_one(toy.spec(seed=1), runs)

    def said() -> bool:
        capsys.readouterr()
        status_table.show(runs, watch=False)
        out = " ".join(capsys.readouterr().out.split())
        return "nobody works on 1 unfinished runs: `zia reproduce` continues" in out

    assert said()
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.answer("squeue", queue(submitted))
    assert not said()
    stand_ins.refuse("squeue", "slurm_load_jobs error")
    assert not said(), "nobody knows"


def test_workers_of_somebody_else_are_not_cancelled(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submit(tmp_path)
    assert submitted is not None
    submitted.with_group(0, processes=(asdict(Process.current()),)).write()

    def kill(pid: int, number: int) -> None:
        if number:
            raise PermissionError

    monkeypatch.setattr(os, "kill", kill)
    with pytest.raises(ZiaError, match="only the user who started them can end them: submission"):
        list(active_jobs.cancel(tmp_path / "runs", None))


def test_whoever_waits_asks_slurm_ever_more_seldom_until_something_happens(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    clock = [1000.0]
    monkeypatch.setattr(active_jobs.time, "monotonic", lambda: clock[0])
    watched = active_jobs.ActiveJobs(tmp_path / "runs")

    def asked(seconds: int) -> int:
        """How often within so many seconds, looked at four times a second."""
        before = len(stand_ins.calls("squeue"))
        for _ in range(4 * seconds):
            watched.current()
            clock[0] += 0.25
        return len(stand_ins.calls("squeue")) - before

    (tmp_path / "runs").mkdir()
    assert asked(60) == 0, "no submission"
    submitted = submit(tmp_path)
    assert submitted is not None
    stand_ins.answer("squeue", queue(submitted))
    assert 5 <= asked(60) <= 7
    assert asked(300) == 10
    stand_ins.answer("squeue", queue(submitted, state="RUNNING"))
    asked(30)  # it has seen that
    assert asked(10) == 1
    replaced = json.loads((submitted.folder / "submission.json").read_text())
    (submitted.folder / "submission.json").write_text(json.dumps(replaced | {"executor": "local"}))
    asked(30)
    assert asked(300) == 0, "no jobs of Slurm's"
