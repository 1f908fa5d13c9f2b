"""A worker of a submission: `python -m experiments.dispatch.job FOLDER GROUP`."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.dispatch import code_snapshot, final_report, submission
from experiments.dispatch.stop_signals import WORKER_SIGNALS, StopSignals
from experiments.dispatch.worker import Worker, WorkerSummary, name_of
from experiments.harness import plan
from experiments.io.output import guarded, say, tell
from zia_core.errors import ZiaError

RESTART_STATE = "ZIA_WORKER_STATE"  # what a worker passes on to the process that replaces it


def work(
    folder: Path,
    group: int,
    stop: StopSignals,
    *,
    idle_seconds: float | None = None,
    summary: WorkerSummary | None = None,
    on_first_step: Callable[[], None] = lambda: None,
) -> WorkerSummary:
    """Do the runs of a group, and make tables and figures if these were the last.

    Raises ZiaError, before any run is claimed, if the code is not what was submitted or the
    device of the plan is missing.
    """
    submitted = submission.load(folder)
    code_snapshot.check_imports(submitted.code)
    code_snapshot.check(submitted.code)
    plan.resolve_device(submitted.device)
    mine = set(submitted.groups[group].runs)
    specs = [spec for spec in submitted.request.specs() if name_of(spec) in mine]
    summary = summary or WorkerSummary()
    _restore(summary)
    worker = Worker(
        submitted.runs_root,
        stop,
        idle_seconds=idle_seconds,
        summary=summary,
        on_first_step=on_first_step,
    )
    worker.work(specs, mine)
    tell(summary)
    if not stop.reason:
        final_report.make_if_finished(submitted)
    if summary.gpu_is_broken and not stop.received:
        _restart(summary)
    return summary


def _restart(summary: WorkerSummary) -> None:
    """Replace this process, whose GPU is broken, by a new one that continues. Does not return.

    It goes on counting consecutive failures, as the GPU itself may be the cause.
    """
    state = {
        "consecutive_failures": summary.consecutive_failures,
        "took_a_step": summary.took_a_step,
    }
    os.environ[RESTART_STATE] = json.dumps(state)
    say("restarting for the next run")
    sys.stdout.flush()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # it would kill a starting Python
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _restore(summary: WorkerSummary) -> None:
    """Take over from the process that this one replaces, if any."""
    if state := os.environ.pop(RESTART_STATE, None):
        before = json.loads(state)
        summary.consecutive_failures, summary.took_a_step = (
            before["consecutive_failures"],
            before["took_a_step"],
        )


def exit_code(summary: WorkerSummary, stop: StopSignals) -> int:
    """0 if nothing is left, 1 if something is, or 128 + the signal that ended the work."""
    if stop.received:
        return 128 + stop.received
    return 1 if summary.left else 0


@guarded()
def main() -> None:
    """Run a local worker; the arguments are the submission's folder and the group's number."""
    folder, group = Path(sys.argv[1]), int(sys.argv[2])
    stop = StopSignals(WORKER_SIGNALS, patient=True)
    try:
        with stop.handled():
            summary = work(folder, group, stop)
    except ZiaError as error:
        say(f"zia: {error}")
        sys.exit(1)
    sys.exit(exit_code(summary, stop))


if __name__ == "__main__":
    main()
