"""The worker inside a Slurm job, which is requeued as long as its runs make progress.

submitit's own signal handlers raise in the middle of a step. Ours replace them: they set a flag,
the run saves at its next step boundary, and only then submitit's handler is called.
"""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

from experiments.dispatch import bad_nodes, code_snapshot, job, retries, squeue, submission
from experiments.dispatch.stop_signals import WORKER_SIGNALS, StopSignals
from experiments.dispatch.submission import Submission
from experiments.dispatch.worker import WorkerSummary
from experiments.io.files import read_json, write_errors, write_json_atomic
from experiments.io.output import guarded, say
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

IDLE_S = 600.0  # a job ends after this time if others work on all that is left
MAX_FRUITLESS_STARTS = 3  # consecutive starts without a new checkpoint: then give up
EARLY_S = 60.0  # Slurm may send the signal of a time limit this much before signal_delay_s
PATIENCE = 0.7  # fraction of signal_delay_s to wait for a step boundary; later is not saved
PAUSES_S = (3.0, 9.0)  # between attempts to requeue
REQUEUES = "requeues"  # in the submission folder


@dataclass
class WorkerJob:
    """The callable that submitit pickles: a string and a number."""

    folder: str
    group: int

    @guarded()
    def __call__(self) -> str:
        """Work; return the summary, or let submitit requeue the job, which ends the process."""
        try:
            submitted = submission.load(Path(self.folder))
            stop, summary = StopSignals(WORKER_SIGNALS, patient=True), WorkerSummary()
            submitit_handler = signal.getsignal(signal.SIGUSR2)
            with stop.handled():
                with self._requeued_in_time(submitted, stop, summary) as requeued:
                    job.work(
                        submitted.folder,
                        self.group,
                        stop,
                        idle_seconds=IDLE_S,
                        summary=summary,
                        on_first_step=partial(bad_nodes.mark_started, submitted),
                    )
                at_once = summary.stopped and not summary.took_a_step and not stop.received
                if at_once and bad_nodes.mark_bad(submitted):
                    _release_runs(submitted, summary)
                usr2 = stop.received == signal.SIGUSR2 and not requeued.is_set()
                if usr2 and summary.left and is_worth_restarting(submitted, self.group, summary):
                    _remove_half_written_pickle()
                    assert callable(submitit_handler)
                    _requeue_with_retries(partial(self._requeue, submitted, submitit_handler), stop)
        except ZiaError as error:
            say(f"zia: {error}")
            blameless = isinstance(error, code_snapshot.ChangedCodeError)
            sys.exit(bad_nodes.EXIT_NOT_THE_NODE if blameless else 1)
        return str(summary)

    def checkpoint(self) -> Any:
        """What submitit calls after a requeue: the same, since the runs are on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _requeue(self, submitted: Submission, by: Callable[..., Any]) -> None:
        """Let submitit's handler requeue the job, if it is ours; this ends the process."""
        squeue.own_job(submitted.job_name(self.group))
        by(signal.SIGUSR2, None)

    @contextmanager
    def _requeued_in_time(
        self, submitted: Submission, stop: StopSignals, summary: WorkerSummary
    ) -> Iterator[threading.Event]:
        """Requeue the job without saving if no step boundary comes in time; yield whether it was.

        An evaluation may take longer than Slurm waits. The steps since the last checkpoint are
        repeated; without the requeue, the job would end and nobody would continue its runs.
        """
        over, requeued = threading.Event(), threading.Event()
        patience = PATIENCE * submitted.groups[self.group].resources["signal_delay_s"]

        def watch() -> None:
            since = None
            while not over.wait(1.0):
                if stop.received != signal.SIGUSR2:
                    continue
                since = since or time.monotonic()
                if time.monotonic() - since < patience:
                    continue
                try:
                    if is_worth_restarting(submitted, self.group, summary):
                        say("no step ended in time: restarting from the last checkpoint")
                        name = submitted.job_name(self.group)
                        _requeue_with_retries(partial(_requeue_unsaved, name), stop)
                        requeued.set()
                except ZiaError as error:
                    say(f"zia: {error}")
                return

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield requeued
        finally:
            over.set()
            watcher.join()


def _requeue_unsaved(name: str) -> None:
    squeue.run(["scontrol", "requeue", squeue.own_job(name)])


def _fruitless(path: Path) -> int:
    return int(conform_fields({"fruitless": int}, read_json(path), str(path))["fruitless"])


def is_worth_restarting(submitted: Submission, group: int, summary: WorkerSummary) -> bool:
    """Whether to restart this job: its runs made progress, this time or recently.

    A start that was cut short does not count, so a preempted job always restarts. Raises ZiaError
    if the count cannot be written (a full disk).
    """
    path = submitted.folder / REQUEUES / f"{int(os.environ['SLURM_JOB_ID'])}.json"
    before = _fruitless(path) if path.exists() else 0
    advanced = summary.has_advanced()
    if not advanced and _was_cut_short(submitted.groups[group].resources["signal_delay_s"]):
        say("cut short before a checkpoint, and not by the time limit: restarting")
        return True
    fruitless = 0 if advanced else before + 1
    with write_errors(path):
        path.parent.mkdir(exist_ok=True)
    write_json_atomic(path, {"fruitless": fruitless})
    if fruitless < MAX_FRUITLESS_STARTS:
        return True
    say(
        f"not restarted: {fruitless} starts ran to the time limit without a new checkpoint or a "
        "finished run; give the jobs more timeout_min, or more signal_delay_s than a step and "
        "an evaluation take"
    )
    return False


def _was_cut_short(signal_delay_s: float) -> bool:
    """Whether USR2 came long before the time limit; False if Slurm does not say."""
    left = squeue.seconds_left(squeue.job_here())
    return left is not None and left > signal_delay_s + EARLY_S


def _release_runs(submitted: Submission, summary: WorkerSummary) -> NoReturn:
    """Make the runs that failed at once pending again, for other nodes."""
    for_others = retries.make_pending(
        [submitted.runs_root / name for name in summary.consecutive_failures]
    )
    raise ZiaError(
        f"{summary.stopped}; none took a step, so the node is taken to be at fault; "
        f"{len(for_others)} runs are pending again"
    )


def _requeue_with_retries(requeue: Callable[[], Any], stop: StopSignals) -> None:
    """Requeue the job, retrying a few times in case the controller is busy.

    Stops retrying after SIGTERM. Raises ZiaError if Slurm refuses every time.
    """
    for pause_s in (*PAUSES_S, None):
        try:
            requeue()
            return
        except (subprocess.SubprocessError, ZiaError) as error:
            if stop.received == signal.SIGTERM:
                return
            if pause_s is None:
                raise ZiaError(
                    f"Slurm does not requeue this job ({error}): `zia reproduce` continues its runs"
                ) from error
            say(f"Slurm did not requeue this job, trying again: {error}")
            time.sleep(pause_s)


def _remove_half_written_pickle() -> None:
    """Remove the rest of a killed job's pickle, or submitit would refuse to write a new one."""
    from submitit import JobEnvironment

    path = JobEnvironment().paths.submitted_pickle
    path.with_suffix(f"{path.suffix}.save_tmp").unlink(missing_ok=True)
