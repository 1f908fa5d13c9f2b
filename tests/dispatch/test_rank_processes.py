"""Runs of two ranks, this process being rank 0, on the tiny experiment of the Slurm tests."""

import os
import signal
import subprocess
import sys
import time
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from experiments.dispatch import in_process, rank_processes
from experiments.dispatch.in_process import Outcome
from experiments.dispatch.worker import name_of
from experiments.harness import process_identity, registry, stored
from experiments.harness.spec import RunSpec
from tests.child_processes import StartChild
from tests.slurm.faulty.tiny import experiment as tiny
from zia_core.training import Interrupted


@pytest.fixture(autouse=True)
def _only_tiny(monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    monkeypatch.setattr(registry, "experiments", lambda: {"tiny": tiny.EXPERIMENT})
    # For rank 1, a process of its own.
    monkeypatch.setenv("ZIA_EXPERIMENTS", "tests.slurm.faulty")
    monkeypatch.setenv("PYTHONPATH", str(repository))


def spec(**settings: Any) -> RunSpec:
    one = tiny.plan("one", "cpu")[0]
    return replace(one, settings=replace(one.settings, steps=6, checkpoint_every=2, **settings))


def run(monkeypatch: pytest.MonkeyPatch, spec: RunSpec, runs: Path, ranks: int) -> Outcome:
    monkeypatch.setattr(rank_processes, "ranks_for", lambda spec: ranks)
    return in_process.run_one(spec, runs)


def losses(runs: Path, spec: RunSpec) -> list[float]:
    return [r["loss"] for r in stored.load(runs / name_of(spec)).metrics() if "loss" in r]


def test_two_processes_do_a_run_as_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two, same = tmp_path / "one", tmp_path / "two", spec(dropout=0.0)
    for ranks, runs in enumerate((one, two), start=1):
        assert run(monkeypatch, same, runs, ranks).state == "done"
        environment = stored.load(runs / name_of(same)).environment
        assert environment["ranks"] == ranks
    assert losses(two, same) == pytest.approx(losses(one, same), rel=1e-6)
    assert losses(two, same) != losses(one, same)  # sums of another order: there were two
    for name in stored.ADAPTER, stored.PREDICTIONS:
        assert (two / name_of(same) / name).stat().st_size == (
            (one / name_of(same) / name).stat().st_size
        )


def test_an_interrupted_run_of_two_ends_as_if_it_had_not_been(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The signal reaches both processes, as that of a scheduler does."""
    whole, cut, with_dropout = tmp_path / "whole", tmp_path / "cut", spec()
    assert run(monkeypatch, with_dropout, whole, ranks=2).state == "done"
    children: list[subprocess.Popen[bytes]] = []
    start = rank_processes._start
    monkeypatch.setattr(
        rank_processes, "_start", lambda *where: children.append(start(*where)) or children[-1]
    )

    def show(fields: dict[str, Any]) -> None:
        if fields["step"] == 3 and len(children) == 1:
            children[0].send_signal(signal.SIGTERM)
            os.kill(os.getpid(), signal.SIGTERM)

    monkeypatch.setattr(rank_processes, "ranks_for", lambda spec: 2)
    outcome = in_process.run_one(with_dropout, cut, show)
    assert (outcome.state, outcome.reason) == ("preempted", "SIGTERM (stopped after step 3)")
    assert run(monkeypatch, with_dropout, cut, ranks=2).state == "done"
    for name in stored.METRICS, stored.ADAPTER:
        ours, theirs = (runs / name_of(with_dropout) / name for runs in (cut, whole))
        assert ours.read_bytes() == theirs.read_bytes()
    assert all(child.returncode is not None for child in children)


def test_a_killed_rank_is_the_reason_of_the_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    children: list[subprocess.Popen[bytes]] = []
    start = rank_processes._start
    monkeypatch.setattr(
        rank_processes, "_start", lambda *where: children.append(start(*where)) or children[-1]
    )
    monkeypatch.setattr(rank_processes, "ranks_for", lambda spec: 2)
    doomed = spec()
    outcome = in_process.run_one(
        doomed, tmp_path, lambda fields: fields["step"] == 3 and children[0].kill()
    )
    assert outcome.state == "failed"
    assert outcome.reason == "rank 1 of the run was killed by SIGKILL"
    assert len(losses(tmp_path, doomed)) == 3


def test_a_rank_that_outlives_an_interrupted_run_is_killed_with_a_message(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    hangs = [sys.executable, "-c", "import time; time.sleep(600)"]
    children = [subprocess.Popen(hangs)]
    monkeypatch.setattr(rank_processes, "_start", lambda *where: children[0])
    monkeypatch.setattr(rank_processes, "SETTLES_S", 0.2)
    monkeypatch.setattr("zia_core.ranks.joined", lambda *world, **device: nullcontext())
    stopped = Interrupted("SIGUSR2", 3)
    with pytest.raises(Interrupted), rank_processes.other_ranks(spec(), tmp_path, 2):
        raise stopped
    assert children[0].returncode == -signal.SIGKILL
    said = capsys.readouterr().err
    assert said == "rank 1 did not exit within 0.2 s of the stop: killed\n"


ALONE = """
import sys
from pathlib import Path
from experiments.dispatch import in_process, rank_processes
from experiments.harness import registry
from tests.dispatch.test_rank_processes import spec
start = rank_processes._start
def started(*where):
    child = start(*where)
    print(child.pid, flush=True)
    return child
rank_processes._start, rank_processes.ranks_for = started, lambda spec: 2
in_process.run_one(spec(), Path(sys.argv[1]), lambda fields: print(fields["step"], flush=True))
"""


def test_the_first_process_killed_the_others_end(
    tmp_path: Path, start_child: StartChild, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process left running would hold a GPU."""
    (tmp_path / "pace").write_text("0.1")
    monkeypatch.setenv(tiny.PACE, str(tmp_path))
    first = start_child(ALONE, tmp_path)
    assert first.stdout is not None
    other_rank = int(first.stdout.readline())
    assert first.stdout.readline() == "1\n"
    first.kill()
    deadline = time.monotonic() + 60
    while process_identity.Process.of(other_rank).start_time is not None:
        assert time.monotonic() < deadline, "it goes on"
        time.sleep(0.05)


def test_the_others_run_the_code_of_the_first_wherever_they_are_started(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Python would look for it in the current folder first, which may be another checkout."""
    other = tmp_path / "checkout" / "experiments" / "dispatch"
    other.mkdir(parents=True)
    for name in ("../__init__.py", "__init__.py", "rank_processes.py"):
        (other / name).write_text("raise SystemExit('another checkout')\n")
    monkeypatch.chdir(tmp_path / "checkout")
    outcome = run(monkeypatch, spec(), tmp_path / "runs", ranks=2)
    assert outcome.state == "done", outcome.reason


def test_one_that_would_run_other_code_ends_with_a_sentence(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "experiments.dispatch.rank_processes", str(tmp_path), "/elsewhere"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.startswith("zia: zia_core would be imported from ")
    assert "Traceback" not in done.stderr


def test_when_a_rank_does_not_start_the_others_end_and_signals_arrive(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    started: list[subprocess.Popen[bytes]] = []

    def start(folder: Path, rank: int, world: Any) -> subprocess.Popen[bytes]:
        if rank == 2:
            raise OSError(11, "Resource temporarily unavailable")
        started.append(subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]))
        return started[0]

    monkeypatch.setattr(rank_processes, "_start", start)
    before = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    with (
        pytest.raises(OSError, match="unavailable"),
        rank_processes.other_ranks(spec(), tmp_path, 3),
    ):
        pass
    assert signal.pthread_sigmask(signal.SIG_BLOCK, []) == before
    assert started[0].poll() == -signal.SIGKILL
