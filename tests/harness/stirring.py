"""A small run, in this process or in one of its own."""

import json
from dataclasses import dataclass

import torch

from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec

# A run in small: five numbers that are stirred 30 times, a checkpoint every third time.
WORK = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
import torch
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec

@dataclass(frozen=True)
class Settings:
    steps: int = 30

SPEC = RunSpec("toy", 1, "stirring", "spoon", "none", "none", "mini", 0, Settings())
RESULT = {"total": float, "note": str | None}

def claim(runs):
    return RunFolder.claim(Path(runs), SPEC, RESULT, stale_after_s=0.3, wait=True)

def work(runs):
    with claim(runs) as folder:
        folder.write_environment({"git": {"sha": "abc"}, "data": {"toy": "1"}})
        step, tensors, state = folder.load_checkpoint() or (0, {"x": torch.arange(5.0)}, {"sum": 0})
        x, total = tensors["x"], state["sum"]
        while step < SPEC.settings.steps:
            x, step = torch.sin(x + step) * 3, step + 1
            total += x.sum().item()
            folder.metrics({"step": step, "loss": x.sum().item()})
            folder.timing({"step": step, "seconds": 0.1})
            folder.progress(step=step, total=30)
            print(step)
            if step % 3 == 0:
                folder.save_checkpoint(step, {"x": x}, {"sum": total})
        folder.write_predictions({"id": i, "output": v} for i, v in enumerate(x.tolist()))
        with folder.writing("adapter.safetensors") as path:
            path.write_bytes(x.numpy().tobytes())
        folder.write_result({"total": total, "note": None})
        folder.set_status("done")
"""


@dataclass(frozen=True)
class Settings:
    steps: int = 30


SPEC = RunSpec("toy", 1, "stirring", "spoon", "none", "none", "mini", 0, Settings())
RESULT = {"total": float, "note": str | None}
X = {"x": torch.arange(3.0)}


def claim(runs, spec=SPEC):
    return RunFolder.claim(runs, spec, RESULT)


def path_of(runs):
    return runs / "toy" / SPEC.folder_name


def contents(folder):
    """Every file of a run folder but those that tell who worked on it, as bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "owner" not in path.parts
    }


def run_to(runs, step, checkpoints=()):
    """Begin the run and stop after `step`, with checkpoints after the steps named."""
    with claim(runs) as folder:
        done = folder.load_checkpoint()
        for i in range(done[0] + 1 if done else 1, step + 1):
            folder.metrics({"step": i})
            folder.timing({"step": i})
            if i in checkpoints:
                folder.save_checkpoint(i, X, {"at": i})


def steps(runs, name="metrics.jsonl"):
    return [json.loads(line)["step"] for line in (path_of(runs) / name).read_text().splitlines()]
