"""`zia reproduce --executor local`, with workers in processes of their own."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments.dispatch import local
from experiments.dispatch.worker import name_of
from experiments.harness import provenance, stored
from experiments.harness.registry import InvalidChoiceError
from tests.dispatch.test_active_jobs import local_submission
from tests.harness import toy
from zia_core.errors import ZiaError

Reproduce = Callable[..., subprocess.Popen[str]]
RUNS = Path("results/runs")
PROGRAM = "from experiments.cli.main import main; main()"


@pytest.fixture
def reproduce(tmp_path: Path, repository: Path) -> Iterator[Reproduce]:
    """`zia reproduce toy --executor local` in an empty folder, in a process of its own."""
    children = []

    def start(what: str, cwd: Path = tmp_path) -> subprocess.Popen[str]:
        places = {"PYTHONPATH": str(repository), "ZIA_EXPERIMENTS": "tests.toys"}
        places["ZIA_TOY_GATE"] = str(tmp_path / "gate")
        command = [sys.executable, "-u", "-c", PROGRAM, "reproduce", *what.split()]
        children.append(
            subprocess.Popen(
                [*command, "--executor", "local"],
                cwd=cwd,
                env=os.environ | places,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
            )
        )
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()
    for submission in (tmp_path / RUNS).glob("submissions/*/submission.json"):
        for group in json.loads(submission.read_text())["groups"]:
            for process in group["processes"]:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process["pid"], signal.SIGKILL)


def states(root: Path) -> list[str]:
    return [run.state for run in stored.states(root / RUNS)]


def until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 300
    while not condition():
        assert time.monotonic() < deadline, "it never happens"
        time.sleep(0.02)


def steps(root: Path) -> list[int]:
    """The newest step of every started run."""
    logs = (root / RUNS).glob(f"*/*/{stored.METRICS}")
    return [log.read_bytes().count(b"\n") - 1 for log in logs]


def test_workers_do_all_runs_and_the_last_makes_the_tables(
    tmp_path: Path, reproduce: Reproduce
) -> None:
    out, _ = reproduce("toy --workers 2 --threads 3").communicate(timeout=300)
    assert "3 runs, 2 workers with 3 cores each, logs in " in out
    assert f"3 done; tables, figures, claims and report are in {tmp_path}/results/fresh\n" in out
    assert states(tmp_path) == ["done"] * 3
    assert (tmp_path / "results/fresh/tables/claims.md").is_file()
    (folder,) = (tmp_path / RUNS / "submissions").glob("*-*")
    logs = [(folder / "logs" / f"worker-{number}.log").read_text() for number in range(2)]
    assert sum("results/fresh/tables/claims.md" in log for log in logs) == 1
    for run in toy.EXPERIMENT.plan("mini", "cpu"):
        assert sum(f"run {name_of(run)}\n" in log for log in logs) == 1

    again = reproduce("toy")
    assert "workers with" not in again.communicate(timeout=300)[0]
    assert again.returncode == 0
    assert len(list((tmp_path / RUNS / "submissions").glob("*-*"))) == 1


def test_workers_run_the_code_that_was_submitted(
    tmp_path: Path, reproduce: Reproduce, repository: Path
) -> None:
    """Whatever PYTHONPATH, the current folder and an editable install say."""
    places = f"--runs {tmp_path / RUNS} --out {tmp_path / 'results'}"
    assert reproduce(f"where {places}", cwd=repository).wait(timeout=300) == 0
    (run,) = stored.states(tmp_path / RUNS)
    (record,) = (tmp_path / RUNS).glob("submissions/*/submission.json")
    submitted = json.loads(record.read_text())
    snapshot = tmp_path / RUNS / "snapshots" / submitted["snapshot"]
    found = {name: Path(place) for name, place in run.predictions()[0].items()}
    assert found["zia_core"] == snapshot / "zia_core/__init__.py"
    assert found["experiments"] == snapshot / "experiments/__init__.py"
    assert found["weights"] == repository / "weights"
    assert run.environment["git"] == submitted["git"]
    if state := provenance.git_state(repository):
        kind = provenance.git_output(repository, "cat-file", "-t", submitted["git"]["sha"])
        assert kind == b"commit\n"
        assert submitted["git"].keys() == state.keys()


def test_a_folder_at_whose_name_pythonpath_is_split_is_refused(
    tmp_path: Path, reproduce: Reproduce
) -> None:
    """There workers would run the checkout, whatever was submitted."""
    child = reproduce("where --runs a:b/runs")
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 1
    assert "a:b/runs' has a ':' in its name, which splits PYTHONPATH" in out
    assert "Traceback" not in out
    assert not (tmp_path / "a:b").exists()


def test_ctrl_c_stops_all_at_the_next_step_and_the_same_command_goes_on(
    tmp_path: Path, reproduce: Reproduce
) -> None:
    child = reproduce("gated --workers 2")
    until(lambda: steps(tmp_path) == [3, 3])
    child.send_signal(signal.SIGINT)
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 130, out
    assert states(tmp_path) == ["preempted"] * 2
    reasons = {run.status["reason"] for run in stored.states(tmp_path / RUNS)}
    assert reasons == {"SIGTERM (stopped after step 3)"}
    assert not (tmp_path / "results/fresh/tables").exists()

    (tmp_path / "gate").touch()
    child = reproduce("gated --workers 2")
    out, _ = child.communicate(timeout=300)
    assert child.returncode == 1
    assert "3 done, 1 failed; tables" in out
    attempts = [len(run.status["attempts"]) for run in stored.states(tmp_path / RUNS)]
    assert sorted(attempts) == [1, 1, 2, 2]
    assert sorted(steps(tmp_path)) == [3, 6, 6, 6]


def test_a_killed_worker_and_a_killed_parent_lose_nothing(
    tmp_path: Path, reproduce: Reproduce
) -> None:
    child = reproduce("gated --workers 2")
    until(lambda: steps(tmp_path) == [3, 3])
    (record,) = (tmp_path / RUNS).glob("submissions/*/submission.json")
    victim = json.loads(record.read_text())["groups"][0]["processes"][0]["pid"]
    child.kill()
    os.kill(victim, signal.SIGKILL)
    (tmp_path / "gate").touch()
    until(lambda: (tmp_path / "results/fresh/tables/claims.md").exists())
    assert sorted(states(tmp_path)) == ["done", "done", "done", "failed"]
    runs = stored.states(tmp_path / RUNS)
    ends = [[attempt["end"] for attempt in run.status["attempts"]] for run in runs]
    assert sorted(ends) == [["done"], ["done"], ["failed"], ["lost", "done"]]


@pytest.mark.parametrize("signals", [1, 2])
def test_ctrl_c_during_the_start_leaves_no_worker_running(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, signals: int
) -> None:
    """Also the one that is started when it comes, and is not yet known to be there."""
    started: list[subprocess.Popen[bytes]] = []

    def start(pool: object, number: int, *anything: object) -> subprocess.Popen[bytes]:
        command = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True)"
        if signals == 1:
            command = "print(flush=True)"
        child = subprocess.Popen(
            [sys.executable, "-c", f"{command}; import time; time.sleep(600)"],
            stdout=subprocess.PIPE,
            start_new_session=True,
        )
        started.append(child)
        assert child.stdout is not None
        child.stdout.readline()
        if number == 1:
            for _ in range(signals):
                os.kill(os.getpid(), signal.SIGINT)
        return child

    monkeypatch.setattr(local._Pool, "_start", start)
    pool = local._Pool(local_submission(tmp_path))
    with pool.signals_passed_on():
        pool.start(local.Workers(("", "", ""), 1))
    try:
        assert [child.wait(timeout=60) for child in started] == [
            -(signal.SIGTERM if signals == 1 else signal.SIGKILL)
        ] * 2
    finally:
        for child in started:
            child.kill()
    assert pool.received == signal.SIGINT
    assert not pool.is_alive()


def test_a_submission_that_cannot_be_written_down_has_no_workers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    monkeypatch.setattr(local._Pool, "_start", lambda *anything: child)
    pool = local._Pool(local_submission(tmp_path))
    shutil.rmtree(tmp_path / "submissions")
    with pytest.raises(ZiaError, match="cannot write"):
        pool.start(local.Workers(("",), 1))
    assert child.wait(timeout=60) == -signal.SIGTERM


def test_a_cpu_has_as_many_workers_as_it_can_carry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(local, "usable_cores", lambda: 8)
    runs = [toy.spec(seed=seed) for seed in range(20)]
    broad = [replace(run, settings=Broad()) for run in runs]
    for specs, workers, threads in ((runs, 8, 1), (runs[:3], 3, 2), (broad, 2, 4)):
        found = local.choose_workers("cpu", None, None, None, specs)
        assert (len(found.visible), found.threads) == (workers, threads)
    assert len(local.choose_workers("cpu", 5, None, None, runs).visible) == 5
    assert len(local.choose_workers("cpu", None, None, 2, runs).visible) == 4


@dataclass(frozen=True)
class Broad:
    """Settings of runs that have several threads."""

    threads: int = 4


def test_gpus_are_shared_out_and_never_shared(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert local.share_gpus(["0", "1", "2"], 2) == ["0,2", "1"]
    assert local.share_gpus([], 2) == ["", ""]
    assert local.parse_gpus("0, 3") == ["0", "3"]
    assert local.choose_workers("cuda", None, "0,1", 4).visible == ("0", "1")
    with pytest.raises(InvalidChoiceError, match="3 workers on 2 GPUs would share them"):
        local.choose_workers("cuda", 3, "0,1", None)
    with pytest.raises(InvalidChoiceError, match="no GPU 2, 7 here; choose from: 0, 1"):
        local.choose_workers("cuda", None, "0,2,7", None)
    assert local.choose_workers("cuda", None, "GPU-8932f937", 4).visible == ("GPU-8932f937",)
    for wrong in ("", "0,,1", "0,0", "0;rm", "$(id)"):
        with pytest.raises(InvalidChoiceError, match="must be different GPUs such as 0,1"):
            local.parse_gpus(wrong)
