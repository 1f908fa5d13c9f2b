"""Train in child processes and kill them: `python -m tests.zia_core.killed_training FOLDER`.

Libraries are loaded once and every attempt is a fork, which is safe since this process never
computes a gradient. Prints one JSON object with the outcomes.
"""

import json
import os
import random
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import torch

from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_model, toy_settings
from zia_core.engine import train

STEPS = 30
RANDOM_KILLS = 5


class DoomedJournal(FolderJournal):
    """Kills its process at the n-th event: between two writes, or in the middle of a line."""

    def __init__(self, folder: Path, events: int) -> None:
        super().__init__(folder)
        self.events = events

    def event(self) -> None:
        self.events -= 1
        if self.events == 0:
            os.kill(os.getpid(), signal.SIGKILL)


class LeashedJournal(FolderJournal):
    """Waits to be killed two steps after `target`, so that no attempt finishes."""

    def __init__(self, folder: Path, target: int) -> None:
        super().__init__(folder)
        self.target = target

    def progress(self, **fields: int) -> None:
        while fields["step"] >= self.target + 2:
            time.sleep(1)


def start(journal: Callable[[], FolderJournal], steps: int) -> int:
    pid = os.fork()
    if pid == 0:
        status = 1
        try:
            train(toy_model(), ToyTask(), toy_settings(total_steps=steps), journal())
            status = 0
        finally:
            os._exit(status)
    return pid


def end(pid: int) -> int:
    """Exit status of a child, negative for a signal."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def steps_recorded(folder: Path) -> int:
    path = folder / "timing.jsonl"
    return path.read_text().count("\n") if path.exists() else 0


def kill_at_random(folder: Path, seed: int) -> list[int]:
    """Five attempts, each killed at a random time, then a full one."""
    numbers = random.Random(seed)
    statuses = []
    for target in sorted(numbers.sample(range(1, STEPS - 3), RANDOM_KILLS)):
        pid = start(lambda t=target: LeashedJournal(folder, t), STEPS)
        while steps_recorded(folder) < target:
            time.sleep(0.001)
        time.sleep(numbers.uniform(0, 0.05))
        os.kill(pid, signal.SIGKILL)
        statuses.append(end(pid))
    return [*statuses, end(start(lambda: FolderJournal(folder), STEPS))]


def kill_everywhere(folder: Path, steps: int) -> list[list[int]]:
    """For n = 1, 2, ...: kill at the n-th event, then resume, until there is no such event."""
    statuses = []
    for n in range(1, 1000):
        place = folder / str(n)
        first = end(start(lambda n=n, place=place: DoomedJournal(place, n), steps))
        if first == 0:
            break
        statuses.append([first, end(start(lambda place=place: FolderJournal(place), steps))])
    return statuses


if __name__ == "__main__":
    torch.set_num_threads(1)
    root = Path(sys.argv[1])
    few = 6
    print(
        json.dumps(
            {
                "undisturbed": end(start(lambda: FolderJournal(root / "undisturbed"), STEPS)),
                "random": kill_at_random(root / "random", seed=5),
                "undisturbed-few": end(start(lambda: FolderJournal(root / "few"), few)),
                "everywhere": kill_everywhere(root / "everywhere", few),
            }
        )
    )
