"""What a worker of a submission does, whoever started it: `python -m experiments.harness.job`."""

import sys
from pathlib import Path

from experiments.harness import plan, reporting, submission
from experiments.harness.stopping import OF_A_WORKER, StopSignals, say
from experiments.harness.worker import Tally, Worker, name_of
from zia_core.errors import ZiaError


def work(
    folder: Path,
    group: int,
    stop: StopSignals,
    *,
    idle_seconds: float | None = None,
    tally: Tally | None = None,
) -> Tally:
    """Work off the runs of a group, and make tables and figures if these were the last.

    ZiaError where the device that the runs were planned for is not here: no run is claimed then.
    """
    submitted = submission.load(folder)
    plan.resolve_device(submitted.device)
    mine = set(submitted.groups[group].runs)
    specs = [spec for spec in submitted.request.specs() if name_of(spec) in mine]
    worker = Worker(submitted.runs_root, stop, idle_seconds=idle_seconds, tally=tally)
    tally = worker.work(specs, mine)
    print(tally, flush=True)
    if not stop.reason:
        reporting.make_if_finished(submitted)
    return tally


def exit_code(tally: Tally, stop: StopSignals) -> int:
    """0: nothing is left; 1: something is; 128 + the number of the signal that ended the work."""
    if stop.received:
        return 128 + stop.received
    return 1 if tally.left else 0


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
