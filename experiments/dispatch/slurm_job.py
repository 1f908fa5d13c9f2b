"""What runs inside a job of Slurm: a worker that is started again while its runs advance.

submitit's own handlers act in the middle of a step: they raise, and leave by an exception. So ours
take their place; they set a flag, the run saves at its next step boundary, and only then submitit
is given the signal that came.
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
from experiments.dispatch.stop_signals import OF_A_WORKER, StopSignals
from experiments.dispatch.submission import Submission
from experiments.dispatch.worker import Tally
from experiments.io.files import read_json, write_errors, write_json_atomic
from experiments.io.output import guarded, say
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

IDLE_S = 600.0  # after which a job gives its node back when others work on all that is left
FRUITLESS_STARTS = 3  # one after another, that kept nothing: then a job is not started again
EARLY_S = 60.0  # so much before signal_delay_s Slurm may send the signal of a time limit
PATIENCE = 0.7  # of signal_delay_s: a run that reaches no step boundary until then is not saved
PAUSES_S = (3.0, 9.0)  # between the attempts to be requeued
REQUEUES = "requeues"  # in the folder of a submission


@dataclass
class WorkerJob:
    """The callable that submitit pickles: a text and a number."""

    folder: str
    group: int

    @guarded()
    def __call__(self) -> str:
        """Work; return the tally, or have submitit requeue the job, which ends the process."""
        try:
            submitted = submission.load(Path(self.folder))
            stop, tally = StopSignals(OF_A_WORKER, patient=True), Tally()
            submitits = signal.getsignal(signal.SIGUSR2)
            with stop.handled():
                with self._requeued_in_time(submitted, stop, tally) as requeued:
                    job.work(
                        submitted.folder,
                        self.group,
                        stop,
                        idle_seconds=IDLE_S,
                        tally=tally,
                        gets_going=partial(bad_nodes.gets_going, submitted),
                    )
                at_once = tally.stopped and not tally.took_a_step and not stop.received
                if at_once and bad_nodes.may_be_left(submitted):
                    _give_back(submitted, tally)
                usr2 = stop.received == signal.SIGUSR2 and not requeued.is_set()
                if usr2 and tally.left and advances(submitted, self.group, tally):
                    _remove_half_written_pickle()
                    assert callable(submitits)
                    _insist(partial(self._requeue, submitted, submitits), stop)
        except ZiaError as error:
            say(f"zia: {error}")
            blameless = isinstance(error, code_snapshot.ChangedCodeError)
            sys.exit(bad_nodes.NOT_THE_NODE if blameless else 1)
        return str(tally)

    def checkpoint(self) -> Any:
        """What submitit is to call when the job starts again: the same, since runs are on disk."""
        from submitit.helpers import DelayedSubmission

        return DelayedSubmission(self)

    def _requeue(self, submitted: Submission, by: Callable[..., Any]) -> None:
        """Have submitit's handler requeue the job, which ends the process, if the job is ours."""
        squeue.own_job(submitted.job_name(self.group))
        by(signal.SIGUSR2, None)

    @contextmanager
    def _requeued_in_time(
        self, submitted: Submission, stop: StopSignals, tally: Tally
    ) -> Iterator[threading.Event]:
        """Requeue the job without saving where no step boundary comes in time; set if it was.

        An evaluation may take longer than Slurm waits. What came after the last checkpoint is made
        again; at its time limit the job would end, and nobody would go on with its runs.
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
                    if advances(submitted, self.group, tally):
                        say("no step has ended in time: starting again from the last checkpoint")
                        name = submitted.job_name(self.group)
                        _insist(partial(_requeue_unsaved, name), stop)
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


def advances(submitted: Submission, group: int, tally: Tally) -> bool:
    """Whether it makes sense to start this job again: its runs got on, this time or lately.

    A start that was cut short says nothing about that: whoever is preempted, however often, starts
    again. ZiaError if that cannot be written down (a full disk).
    """
    path = submitted.folder / REQUEUES / f"{int(os.environ['SLURM_JOB_ID'])}.json"
    before = _fruitless(path) if path.exists() else 0
    advanced = tally.has_advanced()
    if not advanced and _was_cut_short(submitted.groups[group].resources["signal_delay_s"]):
        say("cut short before anything was kept, and not by the time limit: starting again")
        return True
    fruitless = 0 if advanced else before + 1
    with write_errors(path):
        path.parent.mkdir(exist_ok=True)
    write_json_atomic(path, {"fruitless": fruitless})
    if fruitless < FRUITLESS_STARTS:
        return True
    say(
        f"not started again: {fruitless} starts up to the time limit without a new checkpoint or "
        "the end of a run; give the jobs more timeout_min, or more signal_delay_s than a step and "
        "an evaluation take"
    )
    return False


def _was_cut_short(signal_delay_s: float) -> bool:
    """Whether USR2 came before the time limit was near. No, where Slurm does not say."""
    left = squeue.seconds_left(squeue.job_here())
    return left is not None and left > signal_delay_s + EARLY_S


def _give_back(submitted: Submission, tally: Tally) -> NoReturn:
    """Have others do the runs that failed at once, for they may fare better on another node."""
    for_others = retries.make_pending([submitted.runs_root / name for name in tally.in_a_row])
    raise ZiaError(
        f"{tally.stopped}; none took a step, so this is held for the node's fault, and "
        f"{len(for_others)} runs are pending again"
    )


def _insist(requeue: Callable[[], Any], stop: StopSignals) -> None:
    """Have Slurm requeue the job, a few times if need be: its controller may be too busy once.

    Not tried again once SIGTERM has come. ZiaError if Slurm refuses to the end.
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
                    f"Slurm does not requeue this job ({error}): `zia reproduce` goes on with its "
                    "runs"
                ) from error
            say(f"Slurm did not requeue this job, which is tried again: {error}")
            time.sleep(pause_s)


def _remove_half_written_pickle() -> None:
    """What a killed job left of a pickle: submitit would refuse to write a new one."""
    from submitit import JobEnvironment

    path = JobEnvironment().paths.submitted_pickle
    path.with_suffix(f"{path.suffix}.save_tmp").unlink(missing_ok=True)
