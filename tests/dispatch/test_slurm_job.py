"""Inside a job: signals, and when it is requeued."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import slurm, slurm_job, squeue, submission
from experiments.dispatch.slurm_job import WorkerJob
from experiments.dispatch.stop_signals import StopSignals
from experiments.dispatch.submission import Submission
from experiments.dispatch.worker import WorkerSummary, name_of
from experiments.harness import registry, stored
from tests.dispatch.stand_ins import StandIns, submission_in
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


@pytest.fixture
def start_job(tmp_path: Path, stand_ins: StandIns) -> Iterator[Callable[[], subprocess.Popen[str]]]:
    """Start job 71 as srun does: submitit's own entry, our callable from its pickle."""
    from submitit.core.utils import DelayedSubmission

    submitted = submission_in(tmp_path, "gated")
    stand_ins.call_jobs(submitted.job_name(0))
    logs = submitted.folder / submission.LOGS
    delayed = DelayedSubmission(WorkerJob(str(submitted.folder), 0))
    delayed.set_timeout(5, slurm.TIMEOUTS)
    delayed.dump(logs / "71_submitted.pkl")
    jobs = []

    def start() -> subprocess.Popen[str]:
        variables = {
            "SUBMITIT_EXECUTOR": "slurm",
            "SLURM_JOB_ID": "71",
            "SLURM_RESTART_COUNT": str(len(jobs)),
            "ZIA_EXPERIMENTS": "tests.toys",
            "ZIA_TOY_GATE": str(tmp_path / "gate"),
        }
        jobs.append(
            subprocess.Popen(
                [sys.executable, "-u", "-m", "submitit.core._submit", str(logs)],
                cwd=tmp_path,
                env=os.environ | submitted.environment() | variables,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
            )
        )
        return jobs[-1]

    yield start
    for job in jobs:
        job.kill()
        job.communicate()


def is_at_the_gate(job: subprocess.Popen[str]) -> None:
    assert job.stdout is not None
    for line in job.stdout:
        if line.startswith("step 3/6"):
            return
    pytest.fail("it never came there")


def test_usr2_saves_and_requeues_and_the_next_start_goes_on(
    tmp_path: Path, stand_ins: StandIns, start_job: Callable[[], subprocess.Popen[str]]
) -> None:
    path = tmp_path / "runs" / name_of(replace(toy.spec(), experiment="gated"))
    # What a job leaves that is killed while submitit writes its pickle.
    half = tmp_path / "runs/submissions/one/logs/71_submitted.pkl.save_tmp"
    half.write_bytes(b"half")
    job = start_job()
    is_at_the_gate(job)
    for _ in range(2):
        job.send_signal(signal.SIGUSR2)
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 255, out
    assert stand_ins.calls("scontrol") == [["requeue", "71"]]
    assert stored.read_status(path)["state"] == "preempted"
    assert "Traceback" not in out
    assert not half.exists()

    (tmp_path / "gate").touch()
    job = start_job()
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 0, out
    assert out.count("step 3/6") == 3, "the first of four continued after it"
    assert "3 done, 1 failed, 0 left; 3 done here" in out
    assert (tmp_path / "out/tables/claims.md").is_file()
    assert [attempt["end"] for attempt in stored.read_status(path)["attempts"]] == [
        "preempted",
        "done",
    ]


def test_sigterm_saves_and_never_requeues_even_after_usr2(
    tmp_path: Path, stand_ins: StandIns, start_job: Callable[[], subprocess.Popen[str]]
) -> None:
    job = start_job()
    is_at_the_gate(job)
    job.send_signal(signal.SIGSTOP)
    job.send_signal(signal.SIGUSR2)
    job.send_signal(signal.SIGTERM)
    job.send_signal(signal.SIGCONT)
    out, _ = job.communicate(timeout=300)
    assert job.returncode == 0, out
    assert "SIGTERM (stopped after step 3)" in out
    assert stand_ins.calls("scontrol") == []
    path = tmp_path / "runs" / name_of(replace(toy.spec(), experiment="gated"))
    assert stored.read_status(path)["state"] == "preempted"


def test_a_controller_that_is_busy_is_asked_again(
    stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(slurm_job, "PAUSES_S", (0.0, 0.0))
    stop, asked = StopSignals(), []

    def refused_once() -> None:
        asked.append(1)
        if len(asked) == 1:
            raise subprocess.CalledProcessError(1, "scontrol")

    slurm_job._requeue_with_retries(refused_once, stop)
    assert len(asked) == 2
    stand_ins.refuse("scontrol", "Socket timed out")
    with pytest.raises(ZiaError, match=r"does not requeue .*Socket timed out.*`zia reproduce`"):
        slurm_job._requeue_with_retries(lambda: squeue.run(["scontrol", "requeue", "71"]), stop)
    assert len(stand_ins.calls("scontrol")) == 3
    stop.received = signal.SIGTERM
    asked.clear()
    slurm_job._requeue_with_retries(refused_once, stop)
    assert len(asked) == 1


def requeued_without_a_step(submitted: Submission, stand_ins: StandIns) -> list[list[str]]:
    """The Slurm commands after USR2 if no step ends."""
    stop = StopSignals()
    with WorkerJob(str(submitted.folder), 0)._requeued_in_time(submitted, stop, WorkerSummary()):
        stop.received = signal.SIGUSR2
        deadline = time.monotonic() + 60
        while not stand_ins.calls("scontrol"):
            assert time.monotonic() < deadline
            time.sleep(0.05)
    return stand_ins.calls("scontrol")


def test_a_run_without_a_step_boundary_in_time_is_requeued_unsaved(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    submitted = submission_in(tmp_path, "toy", signal_delay_s=1)
    stand_ins.call_jobs(submitted.job_name(0))
    assert requeued_without_a_step(submitted, stand_ins) == [["requeue", "71"]]


def test_a_job_that_keeps_nothing_is_not_started_for_ever(
    tmp_path: Path,
    stand_ins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    stand_ins.answer("squeue", "2:59\n")  # less than the delay and Slurm's minute
    submitted = submission_in(tmp_path, "toy")
    ended = WorkerSummary()
    ended.ends()
    starts = [
        WorkerSummary(),
        WorkerSummary(),
        ended,
        WorkerSummary(),
        WorkerSummary(),
        WorkerSummary(),
    ]
    assert [slurm_job.is_worth_restarting(submitted, 0, summary) for summary in starts] == [
        True
    ] * 5 + [False]
    assert "not restarted: 3 starts ran to the time limit without" in capsys.readouterr().err
    monkeypatch.setenv("SLURM_JOB_ID", "72")
    assert slurm_job.is_worth_restarting(submitted, 0, WorkerSummary())


def test_preemptions_before_anything_is_kept_do_not_count(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLURM_JOB_ID", "73")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "71")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    submitted = submission_in(tmp_path, "toy")
    said = ["3:58:12"] * 5 + ["1:00", "1-00:00:00", "UNLIMITED", "1:00", "3:01"]
    for text in said:
        stand_ins.answer("squeue", f"{text}\n")
        assert slurm_job.is_worth_restarting(submitted, 0, WorkerSummary()), text
    stand_ins.refuse("squeue", "Unable to contact slurm controller")
    assert not slurm_job.is_worth_restarting(submitted, 0, WorkerSummary()), (
        "nobody knows, so it counts: the third"
    )


def test_of_an_array_only_the_own_element_is_requeued(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The last element has the number of the array, by which Slurm would requeue all."""
    monkeypatch.setenv("SLURM_JOB_ID", "71")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "71")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "3")
    submitted = submission_in(tmp_path, "toy", signal_delay_s=1)
    stand_ins.call_jobs(submitted.job_name(0))
    assert requeued_without_a_step(submitted, stand_ins) == [["requeue", "71_3"]]
    assert {call[call.index("--job") + 1] for call in stand_ins.calls("squeue")} == {"71_3"}


def test_somebody_elses_job_is_never_requeued(
    tmp_path: Path,
    stand_ins: StandIns,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(slurm_job, "PAUSES_S", (0.0,))
    monkeypatch.setenv("SLURM_JOB_ID", "90")
    monkeypatch.setenv("SLURM_ARRAY_JOB_ID", "88")
    monkeypatch.setenv("SLURM_ARRAY_TASK_ID", "2")
    submitted = submission_in(tmp_path, "toy", signal_delay_s=1)
    stand_ins.call_jobs("interactive")
    job, stop = WorkerJob(str(submitted.folder), 0), StopSignals()
    with job._requeued_in_time(submitted, stop, WorkerSummary()) as requeued:
        stop.received = signal.SIGUSR2
        said, deadline = "", time.monotonic() + 60
        while "zia: Slurm does not requeue this job" not in said:
            assert time.monotonic() < deadline
            time.sleep(0.05)
            said += capsys.readouterr().err
    assert (
        "job 88_2, which the environment names, is called 'interactive' and not zia-one-0" in said
    )
    assert not requeued.is_set()

    by_submitit: list[int] = []
    with pytest.raises(ZiaError, match="called 'interactive' and not zia-one-0"):
        job._requeue(submitted, lambda number, frame: by_submitit.append(number))
    assert by_submitit == []
    assert stand_ins.calls("scontrol") == []
    stand_ins.call_jobs("zia-one-0")
    job._requeue(submitted, lambda number, frame: by_submitit.append(number))
    assert by_submitit == [signal.SIGUSR2]
