"""What a worker of a submission does, whoever started it: `python -m experiments.dispatch.job`."""

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

from experiments.dispatch import code_snapshot, final_report, submission
from experiments.dispatch.stop_signals import OF_A_WORKER, StopSignals
from experiments.dispatch.worker import Tally, Worker, name_of
from experiments.harness import plan
from experiments.io.output import guarded, say, tell
from zia_core.errors import ZiaError

MEMORY = "ZIA_WORKER_MEMORY"  # what a worker tells the process that takes its place


def work(
    folder: Path,
    group: int,
    stop: StopSignals,
    *,
    idle_seconds: float | None = None,
    tally: Tally | None = None,
    gets_going: Callable[[], None] = lambda: None,
) -> Tally:
    """Work off the runs of a group, and make tables and figures if these were the last.

    ZiaError where the code is not that which was submitted, or the device that the runs were
    planned for is not here: no run is claimed then.
    """
    submitted = submission.load(folder)
    code_snapshot.check_imports(submitted.code)
    code_snapshot.check(submitted.code)
    plan.resolve_device(submitted.device)
    mine = set(submitted.groups[group].runs)
    specs = [spec for spec in submitted.request.specs() if name_of(spec) in mine]
    tally = tally or Tally()
    _remember(tally)
    worker = Worker(
        submitted.runs_root, stop, idle_seconds=idle_seconds, tally=tally, gets_going=gets_going
    )
    worker.work(specs, mine)
    tell(tally)
    if not stop.reason:
        final_report.make_if_finished(submitted)
    if tally.is_spoilt and not stop.received:
        _begin_again(tally)
    return tally


def _begin_again(tally: Tally) -> None:
    """Be another process, of the same number, that does the same: this one's GPU is out of order.

    It goes on counting failures in a row, for the GPU may be what fails. Does not return.
    """
    says = {"in_a_row": tally.in_a_row, "took_a_step": tally.took_a_step}
    os.environ[MEMORY] = json.dumps(says)
    say("starting again with the next run")
    sys.stdout.flush()
    signal.signal(signal.SIGUSR2, signal.SIG_IGN)  # which would end a Python that starts
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _remember(tally: Tally) -> None:
    """What the process knew that was in this one's place."""
    if said := os.environ.pop(MEMORY, None):
        before = json.loads(said)
        tally.in_a_row, tally.took_a_step = before["in_a_row"], before["took_a_step"]


def exit_code(tally: Tally, stop: StopSignals) -> int:
    """0: nothing is left; 1: something is; 128 + the number of the signal that ended the work."""
    if stop.received:
        return 128 + stop.received
    return 1 if tally.left else 0


@guarded()
def main() -> None:
    """Be a local worker: the arguments are the submission's folder and the number of the group."""
    folder, group = Path(sys.argv[1]), int(sys.argv[2])
    stop = StopSignals(OF_A_WORKER, patient=True)
    try:
        with stop.handled():
            tally = work(folder, group, stop)
    except ZiaError as error:
        say(f"zia: {error}")
        sys.exit(1)
    sys.exit(exit_code(tally, stop))


if __name__ == "__main__":
    main()
