"""VTAB-1k's runs in a few steps; the loader counts every list, so a few generated images repeat."""

import os
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np

from experiments.data.subsets import SAMPLE, SAMPLE_TRAINED
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from experiments.images.task_folder import FOLDER, LISTS
from experiments.images.task_writing import png
from experiments.images.tasks import Task
from experiments.training.rehearsed import two_steps
from experiments.vtab_vit import tasks

PICTURES = 64  # different ones of a task; file systems limit the links of a file to 65,000
PIXELS = 8  # a side


def shorten(spec: RunSpec) -> RunSpec:
    """Train on the first images, with the first candidate instead of the best."""
    changes = two_steps(spec.settings, SAMPLE_TRAINED)
    candidates = spec.settings.candidates[:1]
    settings = replace(spec.settings, candidates=candidates, selection_epochs=None, **changes)
    return replace(spec, data=SAMPLE, settings=settings)


def write(task: Task, folder: Path) -> None:
    """Write the task's four lists at their official lengths; images that repeat are hard links."""
    draw = np.random.default_rng(0)
    folder.mkdir(parents=True)
    pictures = [folder / f"{number}.png" for number in range(PICTURES)]
    for picture in pictures:
        picture.write_bytes(png(draw.integers(0, 256, (PIXELS, PIXELS, 3), dtype=np.uint8)))
    names: dict[str, list[str]] = {}
    for part, size in (("train", task.train), ("val", task.val), ("test", task.test)):
        (folder / "images" / part).mkdir(parents=True)
        names[part] = [f"images/{part}/{number:06d}.png" for number in range(size)]
        for number, name in enumerate(names[part]):
            os.link(pictures[number % PICTURES], folder / name)
    names["train_val"] = names["train"] + names["val"]
    for split, name in LISTS.items():
        lines = (f"{image} {_label(image, task)}\n" for image in names[split])
        (folder / name).write_text("".join(lines), encoding="utf-8")


def _label(image: str, task: Task) -> int:
    return int(Path(image).stem) % task.classes


REHEARSAL = Rehearsal(
    shorten, {f"{FOLDER}/{task.name}": partial(write, task) for task in tasks.VTAB_1K}
)
