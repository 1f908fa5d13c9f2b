"""Does runs in child processes that are killed: `python -m tests.slurm.fifty_kills FOLDER`.

The libraries are loaded once and every attempt is a fork; this process never computes a gradient
itself, so that forking is safe. It prints a JSON object with what the kills hit.
"""

import json
import os
import random
import signal
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import torch

import tests.slurm.faulty.tiny.model  # noqa: F401
import zia_core.engine  # noqa: F401 - here, so that the children need not
from experiments.dispatch import in_process
from experiments.dispatch.worker import name_of
from experiments.harness import provenance
from experiments.harness.spec import RunSpec
from tests.slurm.faulty.tiny import experiment as tiny

KILLS = 50
NOTHING = "before any record"


def start(spec: RunSpec, runs: Path) -> int:
    """Do a run in a child; its exit code is 0 if it is done."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            with Path(os.devnull).open("w") as nowhere:
                os.dup2(nowhere.fileno(), sys.stdout.fileno())
            code = 0 if in_process.run_one(spec, runs).state == "done" else 2
        finally:
            os._exit(code)
    return pid


def has_ended(pid: int, seconds: float) -> bool:
    """Whether a child ends by itself within so many seconds."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        if os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
            return True
        time.sleep(0.002)
    return False


def end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: Path) -> None:
    """Kill in `<folder>/killed`, and do the same runs in `<folder>/undisturbed`."""
    torch.set_num_threads(1)
    provenance.environment(with_torch=True)  # what it keeps, every child has
    numbers, (pattern,) = random.Random(11), tiny.plan("one", "cpu")
    hit: Counter[str] = Counter()
    specs, began = [pattern], time.monotonic()
    codes = [end(start(pattern, folder / "undisturbed"))]
    life_s = time.monotonic() - began
    whole = True  # the run has not been killed yet
    barren = 0  # kills in a row before any record: the machine has become slower since
    while True:
        began = time.monotonic()
        pid = start(specs[-1], folder / "killed")
        if sum(hit.values()) == KILLS:
            codes.append(end(pid))
            break
        if has_ended(pid, numbers.uniform(0, life_s * (1 + barren / 2))):
            codes.append(end(pid))
            if whole:  # the first one's life may have been long
                life_s = min(life_s, time.monotonic() - began)
            whole = True
            specs.append(replace(pattern, seed=len(specs)))  # this one is done: the next
            continue
        whole = False
        os.kill(pid, signal.SIGKILL)
        end(pid)
        found = what_was_there(folder / "killed" / name_of(specs[-1]))
        barren = barren + 1 if found == NOTHING else 0
        hit[found] += 1
    codes += [end(start(spec, folder / "undisturbed")) for spec in specs[1:]]
    print(json.dumps({"hit": hit, "codes": codes, "runs": [name_of(spec) for spec in specs]}))


def what_was_there(run: Path) -> str:
    """How far a run had come when it was killed."""
    if (run / "result.json").exists():
        return "after the result"
    if (run / "adapter.safetensors").exists():
        return "between adapter and result"
    if list(run.glob("checkpoint/*")):
        return "between checkpoints"
    return "after the first records" if (run / "metrics.jsonl").exists() else NOTHING


if __name__ == "__main__":
    main(Path(sys.argv[1]))
