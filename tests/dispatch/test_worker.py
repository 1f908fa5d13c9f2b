"""Workers on the toy experiment, in this process and side by side."""

import os
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import retries, worker
from experiments.dispatch.stop_signals import WORKER_SIGNALS, StopSignals
from experiments.dispatch.worker import Worker, WorkerSummary, name_of
from experiments.harness import registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from tests.harness import toy
from zia_core.errors import ZiaError

Children = Callable[..., subprocess.Popen[str]]


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.setattr(worker, "POLL_S", 0.01)


@pytest.fixture
def toy_that(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change what the toy does or requires."""

    def change(**changes: object) -> None:
        changed = {"toy": replace(toy.EXPERIMENT, **changes)}  # type: ignore[arg-type]
        monkeypatch.setattr(registry, "experiments", lambda: changed)

    return change


@pytest.fixture
def zia(tmp_path: Path, repository: Path) -> Iterator[Children]:
    """`zia` of the toy in a process of its own, whose folder of runs is `tmp_path`."""
    children = []

    def start(line: str) -> subprocess.Popen[str]:
        program = str(repository / "tests/harness/toy.py")
        children.append(
            subprocess.Popen(
                [sys.executable, "-u", program, *line.split(), "--runs", str(tmp_path)],
                cwd=tmp_path,
                env=os.environ | {"PYTHONPATH": str(repository)},
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return children[-1]

    yield start
    for child in children:
        child.kill()
        child.communicate()


def work(runs: Path, *specs: RunSpec, **options: float) -> WorkerSummary:
    return Worker(runs, StopSignals(WORKER_SIGNALS, patient=True), **options).work(specs)


def status(runs: Path, spec: RunSpec) -> dict[str, object]:
    return stored.read_status(runs / name_of(spec))


def claim(runs: Path, spec: RunSpec) -> RunFolder:
    folder = RunFolder.claim(runs, spec, toy.EXPERIMENT.result_fields)
    assert folder is not None
    return folder


def test_failures_are_recorded_and_the_others_done(tmp_path: Path) -> None:
    specs = [toy.spec(fail="bug"), toy.spec(fail="error"), toy.spec(), toy.spec(seed=1)]
    assert work(tmp_path, *specs) == WorkerSummary(done=2, failed=2, done_here=2)
    assert status(tmp_path, specs[1])["reason"] == "record 17 has no output"
    again = work(tmp_path, *specs)
    assert again == WorkerSummary(done=2, failed=2), "what failed is not tried again"
    assert str(again) == "2 done, 2 failed, 0 left; 0 done here"


def test_memory_that_runs_out_in_the_backward_pass_is_a_failure_with_a_reason(
    tmp_path: Path, toy_that: Callable[..., None]
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        import torch

        def out_of_memory(gradient: torch.Tensor) -> None:
            raise torch.OutOfMemoryError("CUDA out of memory")

        if spec.seed == 0:
            leaf = torch.ones(3, requires_grad=True)
            leaf.register_hook(out_of_memory)
            leaf.sum().backward()
        toy.run(spec, folder)

    toy_that(run=run)
    assert work(tmp_path, toy.spec(), toy.spec(seed=1)) == WorkerSummary(1, failed=1, done_here=1)
    reason = str(status(tmp_path, toy.spec())["reason"])
    assert reason.startswith("CUDA out of memory: use a larger GPU")


def test_a_folder_that_cannot_be_read_is_left_and_the_others_done(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    corrupt = tmp_path / name_of(toy.spec()) / stored.STATUS
    corrupt.parent.mkdir(parents=True)
    corrupt.write_text("{")
    assert work(tmp_path, toy.spec(), toy.spec(seed=1)) == WorkerSummary(1, left=1, done_here=1)
    assert f"{corrupt} is not valid JSON" in capsys.readouterr().err


def test_a_run_of_somebody_else_is_passed_over_and_looked_at_again(
    tmp_path: Path, zia: Children
) -> None:
    with claim(tmp_path, toy.spec()) as folder:
        child = zia("worker toy")
        assert child.stdout is not None
        for line in child.stdout:
            if line.startswith(f"run {name_of(toy.spec('add-twice', 'product'))}"):
                break
        assert status(tmp_path, toy.spec(seed=1))["state"] == "done"
        folder.metrics({"step": 1, "loss": 1.0})  # still its owner's
    out, _ = child.communicate(timeout=300)
    assert f"run {name_of(toy.spec())}" in out
    assert out.endswith("3 done, 0 failed, 0 left; 3 done here\n")
    assert child.returncode == 0


def test_it_leaves_the_last_runs_to_others_when_it_has_been_idle_for_too_long(
    tmp_path: Path,
) -> None:
    with claim(tmp_path, toy.spec()):
        summary = work(tmp_path, toy.spec(), toy.spec(seed=1), idle_seconds=0.05)
    assert summary == WorkerSummary(done=1, left=1, done_here=1)


def test_required_runs_come_first_and_a_failed_one_keeps_its_followers_back(
    tmp_path: Path, toy_that: Callable[..., None], capsys: pytest.CaptureFixture[str]
) -> None:
    first = toy.spec(fail="error")
    toy_that(requires=lambda spec: [first] if spec.seed == 1 else [])
    assert work(tmp_path, toy.spec(seed=1), toy.spec()) == WorkerSummary(1, 1, 1, done_here=1)
    assert "waits for a run that is not done" in capsys.readouterr().err
    assert not (tmp_path / name_of(toy.spec(seed=1))).exists()
    done = toy.spec(seed=2)
    toy_that(requires=lambda spec: [done] if spec.seed == 1 else [])
    assert work(tmp_path, toy.spec(seed=1)) == WorkerSummary(2, done_here=2)


def test_a_run_that_others_have_the_memory_for_is_waited_for(
    tmp_path: Path, toy_that: Callable[..., None], zia: Children
) -> None:
    toy_that(requires=lambda spec: [toy.spec()] if spec.seed == 1 else [])
    child = zia("run toy --seed 0")
    mine = [name_of(toy.spec(seed=1))]
    stop = StopSignals(WORKER_SIGNALS, patient=True)
    summary = Worker(tmp_path, stop, idle_seconds=0.0).work([toy.spec(seed=1)], mine)
    assert summary == WorkerSummary(done=2, done_here=1)
    assert child.wait(timeout=300) == 0


def test_the_time_is_spent_at_a_step_boundary(tmp_path: Path) -> None:
    assert work(tmp_path, toy.spec(), seconds=0.0) == WorkerSummary(left=1)
    assert not list(tmp_path.iterdir())
    spec = toy.spec(step_s=0.1)
    summary = work(tmp_path, spec, toy.spec(), seconds=0.2)
    assert (summary.done, summary.left) == (0, 2)
    said = re.fullmatch(
        r"the worker's time is up \(stopped after step (\d+)\)",
        str(status(tmp_path, spec)["reason"]),
    )
    assert said
    assert 0 < int(said[1]) < 50


@pytest.mark.parametrize(
    ("sent", "counts"),
    [
        ([signal.SIGUSR2, signal.SIGUSR2], signal.SIGUSR2),
        ([signal.SIGUSR2, signal.SIGTERM], signal.SIGTERM),
        ([signal.SIGTERM, signal.SIGUSR2], signal.SIGTERM),
    ],
)
def test_signals_only_set_a_flag_and_sigterm_counts_most(
    tmp_path: Path, toy_that: Callable[..., None], sent: list[int], counts: int
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        for number in sent:
            os.kill(os.getpid(), number)
        toy.run(spec, folder)  # goes on to its next step boundary

    toy_that(run=run)
    stop = StopSignals(WORKER_SIGNALS, patient=True)
    with stop.handled():
        summary = Worker(tmp_path, stop).work([toy.spec(), toy.spec(seed=1)])
    assert stop.received == counts
    assert summary == WorkerSummary(left=2)
    path = tmp_path / name_of(toy.spec())
    assert stored.read_status(path)["state"] == "preempted"
    assert [file.name for file in (path / stored.CHECKPOINT).iterdir()] == [
        "step-00000000.safetensors"
    ]


def test_failed_runs_are_tried_again_once_for_every_time_that_it_is_asked_for(
    tmp_path: Path,
) -> None:
    specs = [toy.spec(fail="error"), toy.spec(fail="bug"), toy.spec()]
    work(tmp_path, *specs)
    folders = [tmp_path / name_of(spec) for spec in specs]
    assert retries.make_pending(folders, "record 17") == folders[:1]
    assert [status(tmp_path, spec)["state"] for spec in specs] == ["pending", "failed", "done"]
    assert work(tmp_path, *specs).failed == 2
    assert [len(status(tmp_path, spec)["attempts"]) for spec in specs] == [2, 1, 1]
    assert retries.make_pending(folders) == folders[:2]


def test_a_worker_stops_when_run_after_run_fails_and_says_why(tmp_path: Path) -> None:
    specs = [toy.spec(fail="error", seed=seed) for seed in range(4)]
    summary = work(tmp_path, *specs, toy.spec())
    assert summary == WorkerSummary(failed=3, left=2)
    assert re.fullmatch(
        r"0 done, 3 failed, 2 left; 0 done here; stopped, since 3 consecutive runs failed on \S+, "
        r"the last with: record 17 has no output",
        str(summary),
    )
    assert work(tmp_path, *specs, toy.spec()) == WorkerSummary(1, failed=4, done_here=1)
    last = [toy.spec("add-twice", fail="bug", seed=seed) for seed in range(3)]
    assert not work(tmp_path, *last).stopped, "nothing is left to be spared"


def test_runs_that_diverge_are_not_held_against_the_machine(
    tmp_path: Path, toy_that: Callable[..., None]
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        from zia_core.training import NonFiniteLoss

        if spec.seed < 4:
            raise NonFiniteLoss("the loss is nan")
        toy.run(spec, folder)

    toy_that(run=run)
    assert work(tmp_path, *[toy.spec(seed=s) for s in range(5)]) == WorkerSummary(
        1, failed=4, done_here=1
    )


ASSERTED = "CUDA error: device-side assert triggered\nCompile with `TORCH_USE_CUDA_DSA`"


@pytest.mark.parametrize("wrapped", [False, True])
def test_an_error_after_which_the_gpu_is_out_of_order_ends_the_process_and_spares_the_rest(
    tmp_path: Path, toy_that: Callable[..., None], wrapped: bool
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        import torch

        toy.run(replace(spec, settings=replace(spec.settings, steps=2)), folder)
        try:
            raise torch.AcceleratorError(ASSERTED)
        except RuntimeError as error:
            if wrapped:
                raise ZiaError("the encoder failed") from error
            raise

    toy_that(run=run)
    summary = work(tmp_path, toy.spec(), toy.spec(seed=1))
    assert (summary, summary.gpu_is_broken) == (WorkerSummary(failed=1, left=1), True)
    assert "this process can no longer use its GPU" in str(summary)
    reason = str(status(tmp_path, toy.spec())["reason"])
    if not wrapped:
        assert reason.startswith(
            "AcceleratorError: CUDA error: device-side assert triggered (test_"
        )
    assert "\n" not in reason
    assert not (tmp_path / name_of(toy.spec(seed=1))).exists()


def test_a_run_is_released_even_if_the_gpu_is_broken(
    tmp_path: Path, toy_that: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Cleaning up after the run uses the GPU too."""
    import torch

    def asserted(*anything: object) -> None:
        raise torch.AcceleratorError(ASSERTED)

    def run(spec: RunSpec, folder: RunFolder) -> None:
        monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
        monkeypatch.setattr(torch.cuda, "empty_cache", asserted)
        raise ValueError("of the run's own")

    toy_that(run=run)
    summary = work(tmp_path, toy.spec(), toy.spec(seed=1))
    assert (summary, summary.gpu_is_broken) == (WorkerSummary(failed=1, left=1), True)
    with claim(tmp_path, toy.spec()):
        pass


def test_failed_runs_that_are_asked_for_again_are_done_before_a_worker_ends(
    tmp_path: Path, toy_that: Callable[..., None]
) -> None:
    """No other worker is sent for them while it is there; those that waited for them follow."""
    specs = [toy.spec(seed=seed) for seed in range(3)]

    def run(spec: RunSpec, folder: RunFolder) -> None:
        first = tmp_path / name_of(specs[0])
        if spec.seed == 0 and len(stored.read_status(first)["attempts"]) == 1:
            raise ZiaError("the data are not there yet")
        if spec.seed == 2:
            assert retries.make_pending([first]) == [first]
        toy.run(spec, folder)

    toy_that(run=run, requires=lambda spec: specs[:1] if spec.seed == 1 else [])
    assert work(tmp_path, *specs) == WorkerSummary(done=3, done_here=3)


def test_only_what_is_kept_counts_as_advance(tmp_path: Path) -> None:
    folder, summary = tmp_path / "run", WorkerSummary()
    (folder / stored.CHECKPOINT).mkdir(parents=True)
    assert not summary.has_advanced()
    (folder / stored.CHECKPOINT / "step-00000095.safetensors").touch()
    summary.begins(folder)
    assert not summary.has_advanced(), "it begins where the one before it began"
    (folder / stored.CHECKPOINT / "step-00000096.safetensors").touch()
    assert summary.has_advanced()
    summary.begins(tmp_path / "other")
    assert summary.has_advanced()
    ended = WorkerSummary()
    ended.begins(folder)
    ended.ends()
    assert ended.has_advanced()


def test_the_command_says_what_is_left(zia: Children) -> None:
    child = zia("worker all --minutes 0")
    out, _ = child.communicate(timeout=300)
    assert out == "0 done, 0 failed, 3 left; 0 done here\n"
    assert child.returncode == 1
    assert zia("worker toy").wait(timeout=300) == 0


def test_two_workers_do_every_run_once(tmp_path: Path, zia: Children) -> None:
    children = [zia("worker toy") for _ in range(2)]
    counts = []
    for child in children:
        out, _ = child.communicate(timeout=300)
        assert child.returncode == 0, out
        counts.append(int(re.search(r"(\d+) done here", out)[1]))  # type: ignore[index]
    assert sum(counts) == 3
    for run in stored.states(tmp_path):
        assert len(run.status["attempts"]) == 1


def test_a_wrong_word_is_refused(tmp_path: Path, zia: Children) -> None:
    child = zia("worker tox")
    out, _ = child.communicate(timeout=300)
    assert (child.returncode, out) == (2, "zia: there is no experiment 'tox'; choose from: toy\n")
