"""A tiny LLaMA, a tiny encoder and a small ScienceQA: a whole run in seconds."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.harness.spec import RunSpec
from experiments.language.methods import METHODS
from experiments.scienceqa import plan, subsets
from experiments.scienceqa.settings import Settings
from tests.alpaca_llama.world import write_weights
from tests.images.world import write_small_vit

COLOURS = {"red": (220, 30, 30), "green": (30, 200, 40), "blue": (20, 40, 220)}
SIZES = {"train": 24, "val": 6, "test": 9}
QUICK: dict[str, Any] = {
    "num_layers": 2,
    "prompt_length": 3,
    "encoder": "small-vit",
    "encoder_device": "cpu",
    "depths": (1, 2),
    "bottleneck": 4,
    "query_width": 8,
    "query_heads": 2,
    "blocks": 1,
    "batch_size": 8,
    "epochs": 2.0,
    "warmup_epochs": 0.4,
    "peak_lr": 0.01,
    "token_budget": 4096,
    "eval_tokens": 2048,
    "max_length": 200,
    "evaluations": 2,
    "new_tokens": 4,
    "device": "cpu",
    "precision": "fp32",
}


def write_scienceqa(folder: Path) -> None:
    """Questions of our own in the official layout; two of three have an image, some a hint."""
    problems, splits, pid = {}, {name: [] for name in SIZES}, 0
    names = list(COLOURS)
    for split, size in SIZES.items():
        for i in range(size):
            pid += 1
            answer = (pid * 7) % 3
            problems[str(pid)] = {
                "question": f"Which colour has picture {pid}?",
                "choices": names if i % 2 else [*names, "no colour"],
                "answer": answer,
                "hint": f"It is about picture {pid}." if pid % 2 else "",
                "image": "image.png" if pid % 3 else None,
                "grade": f"grade{1 + pid % 12}",
                "subject": ("natural science", "social science", "language science")[pid % 3],
                "topic": "physics",
                "lecture": "Never shown.",
                "solution": "Never shown.",
                "split": split,
            }
            splits[split].append(str(pid))
            if pid % 3:
                path = folder / "images" / split / str(pid) / "image.png"
                path.parent.mkdir(parents=True)
                Image.new("RGB", (20 + pid, 24), COLOURS[names[answer]]).save(path)
    (folder / "problems.json").write_text(json.dumps(problems))
    (folder / "pid_splits.json").write_text(json.dumps(splits))


def prepare(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Point the environment at a world in `root`."""
    write_weights(root / "weights" / "smollm2-135m-instruct")
    write_small_vit(root / "weights" / "small-vit")
    write_scienceqa(root / "data" / "scienceqa")
    patch.setenv("ZIA_WEIGHTS", str(root / "weights"))
    patch.setenv("ZIA_DATA", str(root / "data"))
    patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")
    patch.setattr(subsets, "SIZES", SIZES)


def spec(method: str, **changes: Any) -> RunSpec:
    """A run of the tiny world."""
    own = QUICK | METHODS[method] | changes
    if method != "frozen" and "peak_lr" not in changes:
        own["peak_lr"] = QUICK["peak_lr"]
    return RunSpec(
        experiment=plan.NAME,
        version=plan.VERSION,
        task=plan.TASK,
        method=method,
        backbone="smollm2-135m-instruct",
        data="full",
        profile="small",
        seed=0,
        settings=replace(Settings(), **own),
    )
