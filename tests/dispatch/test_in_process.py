import os
import signal
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import code_snapshot
from experiments.dispatch.in_process import Outcome, run_all, run_one
from experiments.dispatch.stop_signals import StopSignals
from experiments.dispatch.worker import Worker
from experiments.harness import registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


@pytest.fixture
def toy_that(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Replace what the toy does in a run."""

    def replace_run(run: Callable[[RunSpec, RunFolder], None]) -> None:
        changed = {"toy": replace(toy.EXPERIMENT, run=run)}
        monkeypatch.setattr(registry, "experiments", lambda: changed)

    return replace_run


def status(runs: Path, **settings: object) -> dict[str, object]:
    return stored.read_status(runs / "toy" / toy.spec(**settings).folder_name)


def test_a_finished_run_has_all_its_files_and_no_checkpoint(tmp_path: Path) -> None:
    shown: list[dict[str, object]] = []
    assert run_one(toy.spec(), tmp_path, shown.append) == Outcome("done")
    assert [fields["step"] for fields in shown] == [1, 2, 3, 4, 5, 6]
    run = stored.load(tmp_path / "toy" / toy.spec().folder_name)
    assert run.state == "done"
    assert run.result == {"score": 0.75, "steps": 6}
    assert run.environment["torch"]["threads"]
    assert run.config == toy.spec().to_json()
    assert not (run.path / stored.CHECKPOINT).exists()
    assert run_one(toy.spec(), tmp_path) == Outcome("done")
    assert len(stored.read_status(run.path)["attempts"]) == 1


@pytest.mark.parametrize(
    "do",
    [
        lambda spec, runs: run_one(spec, runs),
        lambda spec, runs: run_all([spec], runs),
        lambda spec, runs: Worker(runs, StopSignals()).work([spec]),
    ],
    ids=["run_one", "run_all", "worker"],
)
def test_a_run_killed_while_its_checkpoints_were_removed_loses_the_rest_of_them(
    tmp_path: Path, do: Callable[[RunSpec, Path], object]
) -> None:
    """Those of a large model take tens of gigabytes, and their removal takes a while."""
    run_one(toy.spec(), tmp_path)
    rest = tmp_path / "toy" / toy.spec().folder_name / stored.CHECKPOINT / "shards"
    rest.mkdir(parents=True)
    do(toy.spec(), tmp_path)
    assert not rest.parent.exists()
    assert status(tmp_path)["state"] == "done"


def test_a_failed_run_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    specs = [toy.spec(fail="bug"), toy.spec(fail="result"), toy.spec()]
    assert run_all(specs, tmp_path) == 1
    assert [status(tmp_path, fail=how)["state"] for how in ("bug", "result")] == ["failed"] * 2
    assert status(tmp_path)["state"] == "done"
    assert "RuntimeError: not foreseen (toy.py, line " in str(status(tmp_path, fail="bug"))
    assert "result.json is missing" in str(status(tmp_path, fail="result")["reason"])
    printed = capsys.readouterr()
    assert "Traceback" in printed.err  # of the bug: nobody else would ever see it
    assert "2 of 3 runs are not done:" in printed.err
    assert run_all(specs[2:], tmp_path) == 0


@pytest.mark.parametrize("way", ["in process", "worker"])
@pytest.mark.parametrize("change", ["edited", "added", "removed"])
def test_after_an_edit_no_further_run_is_begun(
    tmp_path: Path,
    toy_that: Callable[..., None],
    monkeypatch: pytest.MonkeyPatch,
    way: str,
    change: str,
) -> None:
    """What is imported later would be of another state than what is in memory."""
    runs, module = tmp_path / "runs", tmp_path / "experiments/toy.py"
    module.parent.mkdir()
    module.write_text("a = 1\n")
    monkeypatch.setattr(code_snapshot, "PROJECT", tmp_path)

    def run(spec: RunSpec, folder: RunFolder) -> None:
        toy.run(spec, folder)
        if change == "edited":
            module.write_text("a = 10\n")
        elif change == "added":
            module.with_name("new.py").touch()
        else:
            module.unlink()

    toy_that(run)
    specs = [toy.spec(), toy.spec(seed=1)]
    name = "experiments/new.py" if change == "added" else "experiments/toy.py"
    with pytest.raises(ZiaError, match=f"{name} was changed since this process started"):
        run_all(specs, runs) if way == "in process" else Worker(runs, StopSignals()).work(specs)
    assert status(runs)["state"] == "done"
    assert status(runs, seed=1)["state"] == "pending"
    module.write_text("a = 1\n")
    toy_that(toy.run)
    assert run_all(specs, runs) == 0


def test_a_corrupt_folder_does_not_stop_the_others(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corrupt = tmp_path / "toy" / toy.spec(seed=1).folder_name / stored.STATUS
    corrupt.parent.mkdir(parents=True)
    corrupt.write_text("{")
    assert run_all([toy.spec(seed=1), toy.spec()], tmp_path) == 1
    assert f"failed: {corrupt} is not valid JSON" in capsys.readouterr().err
    assert status(tmp_path)["state"] == "done"


def test_a_signal_ends_the_plan_and_leaves_the_handlers_as_they_were(tmp_path: Path) -> None:
    before = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert run_all([toy.spec(stop_at=2), toy.spec()], tmp_path) == 128 + signal.SIGINT
    assert status(tmp_path, stop_at=2)["state"] == "preempted"
    assert not (tmp_path / "toy" / toy.spec().folder_name).exists()
    after = [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)]
    assert after == before


def test_a_signal_that_comes_after_the_last_step_ends_the_plan_all_the_same(
    tmp_path: Path, toy_that: Callable[..., None]
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        toy.run(spec, folder)
        os.kill(os.getpid(), signal.SIGTERM)

    toy_that(run)
    assert run_all([toy.spec(), toy.spec(seed=1)], tmp_path) == 128 + signal.SIGTERM
    assert status(tmp_path)["state"] == "done"
    assert not (tmp_path / "toy" / toy.spec(seed=1).folder_name).exists()


def test_a_second_signal_stops_at_once(tmp_path: Path, toy_that: Callable[..., None]) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        pytest.fail("went on")

    toy_that(run)
    outcome = run_one(toy.spec(), tmp_path)
    assert outcome == Outcome("preempted", "SIGTERM twice (stopped at once)", signal.SIGTERM)
    assert status(tmp_path)["state"] == "preempted"
    toy_that(toy.run)
    assert run_one(toy.spec(), tmp_path) == Outcome("done")


def test_a_run_that_another_process_works_on_is_left_alone(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    fields = toy.EXPERIMENT.result_fields
    folder = RunFolder.claim(tmp_path, toy.spec(), fields, stale_after_s=1.0)
    assert folder is not None
    with folder:
        folder.metrics({"step": 1, "loss": 1.0})
        assert run_all([toy.spec()], tmp_path) == 1
        folder.metrics({"step": 2, "loss": 1.0})  # still its owner's
    assert "busy: another process works on it" in capsys.readouterr().err
    assert run_all([toy.spec()], tmp_path) == 0


@pytest.mark.parametrize("end", ["writes", "fails"])
def test_a_run_that_was_taken_over_is_not_written_to(
    tmp_path: Path, toy_that: Callable[..., None], end: str
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        (folder.path / "owner" / "000002.json").write_text("{}")
        (folder.path / stored.STATUS).write_text("the successor's")
        if end == "fails":
            raise ZiaError("record 17 has no output")
        folder.metrics({"step": 1})

    toy_that(run)
    outcome = run_one(toy.spec(), tmp_path)
    assert outcome.state == "busy"
    assert "number 2 has taken over" in outcome.reason
    path = tmp_path / "toy" / toy.spec().folder_name
    assert (path / stored.STATUS).read_text() == "the successor's"


def test_a_full_disk_is_one_sentence_and_leaves_no_result(
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    file_size_limit: Callable[[int], AbstractContextManager[None]],
) -> None:
    with file_size_limit(600):  # too little for environment.json, enough for a status
        assert run_all([toy.spec()], tmp_path) == 1
    with file_size_limit(20):  # too little for anything
        assert run_all([toy.spec(seed=1)], tmp_path) == 1
    errors = capsys.readouterr().err.splitlines()
    assert [line.partition(":")[0] for line in errors] == ["failed", "failed"]
    assert "environment.json: File too large" in errors[0]
    assert "environment.json: File too large" in str(status(tmp_path)["reason"])
    assert not list(tmp_path.glob(f"*/*/{stored.RESULT}"))
    assert run_all([toy.spec(), toy.spec(seed=1)], tmp_path, retry_failed=True) == 0


def test_required_runs_come_first_and_are_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Seed 1 reads the result of seed 0, which is done first although only seed 1 is asked for."""
    read = []

    def run(spec: RunSpec, folder: RunFolder) -> None:
        if spec.seed == 1:
            read.append(folder.result_of(toy.spec(), toy.EXPERIMENT.result_fields)["score"])
        elif fails:
            raise ZiaError("no luck")
        toy.run(spec, folder)

    changed = replace(
        toy.EXPERIMENT, run=run, requires=lambda spec: [toy.spec()] if spec.seed == 1 else []
    )
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": changed})
    fails = True
    assert run_all([toy.spec(seed=1)], tmp_path / "a") == 1
    assert "waiting: it needs the run toy/add-sum" in capsys.readouterr().err
    assert not (tmp_path / "a" / "toy" / toy.spec(seed=1).folder_name).exists()
    folder = RunFolder.claim(tmp_path / "a", toy.spec(seed=2), {})
    assert folder is not None
    with folder, pytest.raises(ZiaError, match="whose result is needed, is not done"):
        folder.result_of(toy.spec(), toy.EXPERIMENT.result_fields)
    fails = False
    assert run_all([toy.spec()], tmp_path / "c") == 0
    folder = RunFolder.claim(tmp_path / "c", toy.spec(seed=2), {})
    assert folder is not None
    with folder:
        folder.write_environment({"weights": {"model": "b"}})
        with pytest.raises(ZiaError, match="was made with other weights: restore those"):
            folder.result_of(toy.spec(), toy.EXPERIMENT.result_fields)
    assert run_all([toy.spec(seed=1), toy.spec()], tmp_path / "b") == 0
    assert read == [0.75]
    assert "[2/2]" in capsys.readouterr().out
