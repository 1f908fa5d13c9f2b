"""Do the runs of a rehearsal: kill a worker half-way through one, then let an executor do all."""

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path

from experiments.dispatch import final_report, in_process, local
from experiments.dispatch.submission import Request
from experiments.dispatch.worker import name_of
from experiments.harness import plan, stored
from experiments.io.output import tell

POLL_S = 0.02
PATIENCE_S = 600.0
KILLED_LOG = "killed-worker.log"  # beside the folder of runs


def in_this_process(request: Request) -> None:
    """Do all runs here, then make tables and claims."""
    in_process.run_all(request.specs(), request.runs_root)
    final_report.finish(request)


def in_workers(request: Request, workers: int | None) -> None:
    """Do all runs in several processes, then make tables and claims."""
    specs = request.specs()
    local.reproduce(request, local.choose_workers(request.device, workers, None, None, specs))


def rehearse(request: Request, execute: Callable[[Request], None], *, kill: bool) -> Iterator[str]:
    """Do the runs, and yield a sentence for each fault.

    With `kill`, a worker dies in the first run that gets to a checkpoint, before `execute` is
    called to do all others and to continue that one.
    """
    killed = _kill_a_worker(request) if kill else None
    if killed is not None:
        tell(f"killed a worker in {killed}")
    execute(request)
    states: Counter[str] = Counter()
    for spec in request.specs():
        run = plan.inspect(spec, request.runs_root)
        states[run.state] += 1
        folder, name = request.runs_root / name_of(spec), name_of(spec)
        if run.state != "done":
            yield f"{name}: {run.state}{run.reason and f', {run.reason}'}"
            continue
        ends = [attempt["end"] for attempt in stored.read_status(folder)["attempts"]]
        if name == killed and "lost" not in ends:
            yield f"{name}: a worker was killed in it, and the run does not tell ({ends})"
        elif stored.load(folder).result.get("steps") and len(ends) == 1:
            yield f"{name}: it was not stopped and resumed"
    told = ", ".join(f"{number} {state}" for state, number in states.items())
    tell(f"{request.profile}: {told}")


def _kill_a_worker(request: Request) -> str | None:
    """Start a worker, and SIGKILL it in a run that has a checkpoint; return the run's name.

    None if there is nothing to train.
    """
    command = [sys.executable, "-m", "experiments.cli", "worker", request.experiment or "all"]
    command += ["--profile", request.profile, "--device", request.device]
    command += ["--runs", str(request.runs_root)]
    for option, value in asdict(request.models).items():
        command += [f"--{option}", value] if value is not None else []
    folders = {name_of(spec): request.runs_root / name_of(spec) for spec in request.specs()}
    log = request.runs_root.parent / KILLED_LOG
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as output:
        worker = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=output, stderr=subprocess.STDOUT
        )
    try:
        deadline = time.monotonic() + PATIENCE_S
        while worker.poll() is None and time.monotonic() < deadline:
            for name, folder in folders.items():
                if _is_half_way(folder) and _still_is(folder, worker):
                    return name
            time.sleep(POLL_S)
        return None
    finally:
        worker.kill()
        worker.wait()


def _still_is(folder: Path, worker: "subprocess.Popen[bytes]") -> bool:
    """Whether the run is half-way when the worker stands still; else it goes on."""
    worker.send_signal(signal.SIGSTOP)
    if _is_half_way(folder):
        return True
    worker.send_signal(signal.SIGCONT)
    return False


def _is_half_way(folder: Path) -> bool:
    """Whether an attempt is going on and has something to resume from."""
    running = folder.exists() and stored.read_status(folder)["state"] == "running"
    return running and stored.checkpoint_step(folder) > 0
