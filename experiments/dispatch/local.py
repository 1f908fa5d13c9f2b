"""Run several workers on this machine, each a process with its own GPUs and threads.

Not with submitit's LocalExecutor: it starts everything at once on the same GPUs, ends it after two
minutes by default, and adds a process in between that would have to forward signals.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from types import FrameType

from experiments.dispatch import final_report, live_view, submission
from experiments.dispatch.stop_signals import TERMINAL_SIGNALS
from experiments.dispatch.submission import LOGS, Group, Request, Submission
from experiments.dispatch.worker import name_of
from experiments.harness import registry
from experiments.harness.process_identity import Process
from experiments.harness.provenance import usable_cores
from experiments.harness.registry import InvalidChoiceError
from experiments.harness.spec import RunSpec
from experiments.io.output import say, tell

THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")


@dataclass(frozen=True)
class Workers:
    """The resources of each worker."""

    visible: tuple[str, ...]  # CUDA_VISIBLE_DEVICES of each worker
    threads: int


def choose_workers(
    device: str,
    workers: int | None,
    gpus: str | None,
    threads: int | None,
    specs: Sequence[RunSpec] = (),
) -> Workers:
    """Fill in what the command line leaves open.

    By default one worker per GPU; on a CPU as many as its cores can carry at the thread count of
    `specs`, but not more than runs. Raises InvalidChoiceError if GPUs are requested for the CPU,
    do not exist, or would be shared.
    """
    if gpus is not None and device == "cpu":
        raise InvalidChoiceError("--gpus goes with --device cuda: these runs are for the CPU")
    there = _all_gpus() if device == "cuda" else []
    listed = there if gpus is None else parse_gpus(gpus)
    # GPUs may also be given by id, which cannot be checked here.
    if absent := [gpu for gpu in listed if gpu.isdecimal() and gpu not in there]:
        raise InvalidChoiceError(
            f"--gpus: there is no GPU {', '.join(absent)} here; choose from: {', '.join(there)}"
        )
    cores = usable_cores() or 1
    each = threads or max((getattr(spec.settings, "threads", 1) for spec in specs), default=1)
    fitting = max(1, min(cores // each, len(specs) or cores))
    number = workers or len(listed) or fitting
    return Workers(tuple(share_gpus(listed, number)), threads or max(1, cores // number))


def _all_gpus() -> list[str]:
    import torch

    given = os.environ.get("CUDA_VISIBLE_DEVICES")
    return given.split(",") if given else [str(i) for i in range(torch.cuda.device_count())]


def share_gpus(gpus: Sequence[str], workers: int) -> list[str]:
    """CUDA_VISIBLE_DEVICES of each worker; every GPU has one worker. Empty without GPUs."""
    if gpus and len(gpus) < workers:
        raise InvalidChoiceError(
            f"{workers} workers on {len(gpus)} GPUs would share them: use --workers {len(gpus)}"
        )
    return [",".join(gpus[number::workers]) for number in range(workers)]


def parse_gpus(text: str) -> list[str]:
    """Parse a list such as `0,1`; InvalidChoiceError if it is malformed or repeats a GPU."""
    gpus = [gpu.strip() for gpu in text.split(",")]
    if not all(gpu.replace("-", "").isalnum() for gpu in gpus) or len(set(gpus)) < len(gpus):
        raise InvalidChoiceError(f"--gpus {text!r:.60} must be different GPUs such as 0,1")
    return gpus


def reproduce(request: Request, workers: Workers) -> int:
    """Do all missing runs in several processes, then make tables, figures and claims.

    Returns 0 if all runs are done, 1 if not, or 128 + the signal that stopped it. The first signal
    stops every worker at its next step boundary; the second kills them and loses the steps since
    the last checkpoint. A worker that dies is not replaced; the others take over its run.
    """
    submission.check_path(request.runs_root)
    names = [name_of(spec) for spec in request.specs()]
    with submission.submission_lock(request.runs_root):
        missing = submission.missing(request.specs(), request.runs_root)
        if not missing:
            return final_report.finish(request)
        group = Group(tuple(map(name_of, missing)), len(workers.visible))
        submitted = submission.create(request, "local", [group])
    cores = "a core" if workers.threads == 1 else f"{workers.threads} cores"
    each = "a GPU or more" if workers.visible[0] else cores
    logs = submitted.folder / LOGS
    tell(f"{len(missing)} runs, {group.workers} workers with {each} each, logs in {logs}")
    seconds = {
        name_of(spec): 3600 * (registry.get(spec.experiment).estimate(spec).hours or 0.0)
        for spec in missing
    }
    pool = _Pool(submitted)
    with pool.signals_passed_on():
        pool.start(workers)
        live_view.follow(
            names, request.runs_root, pool.is_alive, seconds=seconds, workers=group.workers
        )
    pool.report()
    return 128 + pool.received if pool.received else final_report.finish(request, submitted)


class _Pool:
    """The worker processes of a submission."""

    def __init__(self, submitted: Submission) -> None:
        self.received = 0
        self._number = signal.SIGTERM  # sent to workers in response
        self._submitted = submitted
        self._logs = submitted.folder / LOGS
        self._processes: list[subprocess.Popen[bytes]] = []

    def start(self, workers: Workers) -> None:
        """Start and record all processes; if that fails, none is left running.

        Call within `signals_passed_on`, or a signal in between would leave some behind.
        """
        try:
            for number, devices in enumerate(workers.visible):
                if not self.received:
                    self._processes.append(self._start(number, devices, workers.threads))
            records = tuple(asdict(Process.of(process.pid)) for process in self._processes)
            self._submitted.with_group(0, processes=records).write()
        except BaseException:
            self._send(signal.SIGTERM)
            raise
        if self.received:  # before the newest was in the list
            self._send(self._number)

    def _start(self, number: int, devices: str, threads: int) -> subprocess.Popen[bytes]:
        threaded = dict.fromkeys(THREAD_VARIABLES, str(threads))
        environment = {**os.environ, **self._submitted.environment(), **threaded}
        environment["CUDA_VISIBLE_DEVICES"] = devices
        if inherited := os.environ.get("PYTHONPATH"):
            environment["PYTHONPATH"] += os.pathsep + inherited
        command = [
            sys.executable,
            "-u",
            "-m",
            "experiments.dispatch.job",
            str(self._submitted.folder),
            "0",
        ]
        with (self._logs / f"worker-{number}.log").open("ab") as log:
            # In its own session, so that Ctrl-C reaches this process alone, which forwards it.
            return subprocess.Popen(
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                start_new_session=True,
            )

    def is_alive(self) -> bool:
        return any(process.poll() is None for process in self._processes)

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Forward a signal."""
        again, self.received = bool(self.received), number
        self._number = signal.SIGKILL if again else signal.SIGTERM
        self._send(self._number)
        say("workers killed" if again else "stopping after this step; again: stop at once")

    def _send(self, number: signal.Signals) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.send_signal(number)

    @contextmanager
    def signals_passed_on(self) -> Iterator[None]:
        before = {number: signal.signal(number, self) for number in TERMINAL_SIGNALS}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)

    def report(self) -> None:
        """Print the last log line of every worker that failed, and where its log is."""
        for number, process in enumerate(self._processes):
            code, log = process.wait(), self._logs / f"worker-{number}.log"
            if code < 0 and not self.received:
                say(f"worker {number} was killed by {signal.Signals(-code).name}; its log: {log}")
            elif code and not self.received:
                last = log.read_text(encoding="utf-8", errors="replace").strip().rpartition("\n")[2]
                say(f"worker {number}: {last}; its log: {log}")
