"""A tiny ViT in `$ZIA_WEIGHTS` and a task of a few images in `$ZIA_DATA`: a run in a second."""

import random
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.backbones import small_vit
from experiments.backbones.small_vit import ViTShape
from experiments.dispatch.in_process import run_one
from experiments.harness import stored
from experiments.harness.spec import RunSpec
from experiments.images.tasks import Task
from experiments.vtab_vit import plan, subsets, tasks
from experiments.vtab_vit.settings import Settings
from tests.vtab_vit.folders import png

TASK = Task("tiny", "Tiny", "small", classes=3, test=9, train=16, val=8)
SHAPE = ViTShape(dim=16, depth=3, heads=2, mlp_ratio=2)
LISTS = {
    "train800.txt": range(16),
    "val200.txt": range(16, 24),
    "train800val200.txt": range(24),
    "test.txt": range(24, 33),
}
# A tiny ViT's settings; the loss sequence in this folder was made with them.
QUICK: dict[str, Any] = {
    "protocol": "fact",
    "resolution": 32,
    "precision": "fp32",
    "device": "cpu",
    "selection_epochs": 5.0,
    "num_layers": 2,
    "prompt_length": 3,
    "visual_prompts": 3,
    "bottleneck": 4,
    "lora_rank": 2,
    "batch_size": 8,
    "micro_batch_size": 8,
    "epochs": 3.0,
    "warmup_epochs": 1.0,
    "candidates": ((0.02, 0.01), (0.001, 0.01)),
}


def write_weights(folder: Path, seed: int = 0) -> None:
    """A released small ViT, random and large enough for every part of it to matter."""
    torch.manual_seed(seed)
    model = small_vit.build(SHAPE)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    folder.mkdir(parents=True)
    small_vit.write_weights(model, folder / small_vit.WEIGHTS)
    card = small_vit.card(SHAPE, folder / small_vit.WEIGHTS, {})
    (folder / small_vit.CARD).write_text(card)


def write_images(folder: Path) -> None:
    """Noise in which one colour, the class's, is stronger."""
    numbers = random.Random(5)
    (folder / "images").mkdir(parents=True)
    for number in range(33):
        rows = [[_pixel(numbers, number % 3) for _ in range(8)] for _ in range(8)]
        (folder / "images" / f"{number}.png").write_bytes(png(rows))
    for name, listed in LISTS.items():
        (folder / name).write_text("".join(f"images/{n}.png {n % 3}\n" for n in listed))


def _pixel(numbers: random.Random, strong: int) -> tuple[int, int, int]:
    red, green, blue = (numbers.randrange(180) + 60 * (i == strong) for i in range(3))
    return red, green, blue


def prepare(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Point the environment at a world in `root`."""
    write_weights(root / "weights" / "small-vit")
    write_images(root / "data" / "vtab" / "tiny")
    patch.setenv("ZIA_WEIGHTS", str(root / "weights"))
    patch.setenv("ZIA_DATA", str(root / "data"))
    patch.setitem(tasks.TASKS, "tiny", TASK)


def spec(method: str, seed: int = 42, **changes: Any) -> RunSpec:
    """A final run of the tiny world; with `peak_lr` it needs no select runs."""
    return RunSpec(
        experiment=plan.NAME,
        version=plan.VERSION,
        task="tiny",
        method=method,
        backbone="small-vit",
        data=subsets.REDUCED,
        profile="small",
        seed=seed,
        settings=Settings(**{**QUICK, **changes}),
    )


def given(method: str, **changes: Any) -> RunSpec:
    """A final run with its rate given."""
    return spec(method, **({"peak_lr": 0.02, "weight_decay": 0.01, "candidates": ()} | changes))


def done(root: Path, run: RunSpec) -> stored.StoredRun:
    """Do a run in `root` and read it."""
    outcome = run_one(run, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / run.experiment / run.folder_name)
