"""Rehearsed runs are stopped, killed and resumed; what goes wrong is a sentence each."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.dispatch import in_process, rehearsed_runs
from experiments.dispatch.submission import Request
from experiments.dispatch.worker import name_of
from experiments.harness import plan, registry, stored
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from tests.harness import toy

PROFILE = "mini-rehearsal"


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    # For the worker that is killed, another process.
    monkeypatch.setenv("ZIA_EXPERIMENTS", "tests.toys")
    monkeypatch.setenv("PYTHONPATH", str(repository))


@pytest.fixture
def request_(tmp_path: Path) -> Request:
    return Request("toy", PROFILE, "cpu", tmp_path / "runs", tmp_path / "out")


def execute(request: Request) -> None:
    in_process.run_all(request.specs(), request.runs_root)


def ends(request: Request) -> list[list[str]]:
    folders = [request.runs_root / name_of(spec) for spec in request.specs()]
    return [[a["end"] for a in stored.read_status(folder)["attempts"]] for folder in folders]


def test_equal_seeds_are_rehearsed_once() -> None:
    planned = plan.planned("toy", PROFILE, "cpu")
    assert [(spec.method, spec.seed) for spec in planned] == [("add", 0), ("add-twice", 0)]
    assert {spec.profile for spec in planned} == {PROFILE}


def test_one_run_is_killed_and_the_others_stopped_and_all_resume(
    request_: Request, capsys: pytest.CaptureFixture[str]
) -> None:
    assert list(rehearsed_runs.rehearse(request_, execute, kill=True)) == []
    killed, other = ends(request_)
    assert killed[-2:] == ["lost", "done"]
    assert other == ["preempted", "done"]
    told = capsys.readouterr().out
    assert f"killed a worker in {name_of(request_.specs()[0])}" in told
    assert f"{PROFILE}: 2 done" in told.splitlines()
    for spec in request_.specs():
        steps = stored.metrics(request_.runs_root / name_of(spec))
        assert [record["step"] for record in steps] == [0, 1, 2, 3]


def test_a_worker_is_killed_within_an_attempt_and_not_between_two(request_: Request) -> None:
    """Between two it would lose nothing, and the run could not tell."""
    spec = request_.specs()[0]
    folder = request_.runs_root / name_of(spec)
    assert not rehearsed_runs._is_half_way(folder)  # not begun
    stopped = in_process._run_once(
        spec, request_.runs_root, None, stop=None, watch=None, stops=True
    )
    assert stopped.state == "preempted"
    assert stored.checkpoint_step(folder) == 1
    assert not rehearsed_runs._is_half_way(folder)
    status = json.loads((folder / stored.STATUS).read_text())
    (folder / stored.STATUS).write_text(json.dumps(status | {"state": "running"}))
    assert rehearsed_runs._is_half_way(folder)


def test_a_run_that_does_not_resume_is_a_fault(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(in_process, "_stopping", lambda show, folder: show)
    faults = list(rehearsed_runs.rehearse(request_, execute, kill=False))
    names = [name_of(spec) for spec in request_.specs()]
    assert faults == [f"{name}: it was not stopped and resumed" for name in names]


def test_a_run_that_fails_is_a_fault_and_the_others_go_on(
    request_: Request, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shorten(spec: RunSpec) -> RunSpec:
        changes: dict[str, Any] = {"steps": 5, "fail": "error" if spec.method == "add" else None}
        return replace(spec, settings=replace(spec.settings, **changes))

    failing = replace(toy.EXPERIMENT, rehearsal=Rehearsal(shorten, ()))
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": failing})
    (fault,) = rehearsed_runs.rehearse(request_, execute, kill=False)
    assert fault == f"{name_of(request_.specs()[0])}: failed, record 17 has no output"
    assert ends(request_) == [["preempted", "failed"], ["preempted", "done"]]


def test_other_profiles_are_not_stopped(tmp_path: Path) -> None:
    in_process.run_one(toy.spec(), tmp_path)
    status = stored.read_status(tmp_path / name_of(toy.spec()))
    assert [attempt["end"] for attempt in status["attempts"]] == ["done"]
