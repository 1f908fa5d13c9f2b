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
from experiments.harness import provenance, stored
from experiments.harness.spec import RunSpec
from tests.slurm.faulty.tiny import experiment as tiny

KILLS = 50
FURTHER, LONGEST_DELAY_S = 10, 0.1  # a whole run has 28 records and takes 0.2 s


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


def reaches(pid: int, run: Path, records: int) -> bool:
    """Whether a child's run has so many records before it ends by itself."""
    while not os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT):
        if records_of(run) >= records:
            return True
        time.sleep(0.001)
    return False


def end(pid: int) -> int:
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def main(folder: Path) -> None:
    """Kill in `<folder>/killed`, and do the same runs in `<folder>/undisturbed`.

    A kill waits for none to `FURTHER` records more than there were, and then for some milliseconds:
    so a slow machine's runs are hit in the same places as a fast one's, and they get on.
    """
    torch.set_num_threads(1)
    torch.optim.AdamW([torch.zeros(1, requires_grad=True)])  # imports what takes seconds
    provenance.environment(with_torch=True)  # what it keeps, every child has
    numbers, (pattern,) = random.Random(11), tiny.plan("one", "cpu")
    hit: Counter[str] = Counter()
    specs, codes = [pattern], [end(start(pattern, folder / "undisturbed"))]
    while sum(hit.values()) < KILLS:
        run = folder / "killed" / name_of(specs[-1])
        records = records_of(run) + max(0, numbers.randint(-3, FURTHER))
        pid = start(specs[-1], folder / "killed")
        if reaches(pid, run, records):
            time.sleep(numbers.uniform(0, LONGEST_DELAY_S))
        os.kill(pid, signal.SIGKILL)  # nothing happens to one that has ended
        if (code := end(pid)) >= 0:
            codes.append(code)
            specs.append(replace(pattern, seed=len(specs)))  # this one is done: the next
        else:
            hit[what_was_there(run)] += 1
    codes.append(end(start(specs[-1], folder / "killed")))
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
    return "after the first records" if records_of(run) else "before any record"


def records_of(run: Path) -> int:
    path = run / stored.METRICS
    return path.read_bytes().count(b"\n") if path.exists() else 0


if __name__ == "__main__":
    main(Path(sys.argv[1]))
