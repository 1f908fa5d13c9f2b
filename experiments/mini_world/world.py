"""Write the generated world as a folder for `$ZIA_DATA`, with every file in its official format."""

import json
import secrets
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.images.digits import INSTALLED, digits
from experiments.images.task_writing import Encoded, Lists, png, write_task
from experiments.images.tasks import Task
from experiments.io.files import check_output, write_errors
from experiments.mini_world import image_tasks
from experiments.mini_world.captions import Thing, captions, draw_scene
from experiments.mini_world.creatures import SPLITS, Split
from experiments.mini_world.dice import Dice
from experiments.mini_world.exams import problems
from experiments.mini_world.images import examples
from experiments.mini_world.instructions import instructions
from experiments.mini_world.passages import squad
from experiments.mini_world.scenes import draw_picture
from zia_core.errors import ZiaError

VERSION = 3  # raised when a byte of the world can change
SCENES: dict[Split, int] = {"train": 400, "val": 50, "test": 100}
DIGITS = "mini_digits"


def write_world(folder: Path) -> Path:
    """Create `folder` with the world, atomically, and return it; the same bytes on every machine.

    ZiaError if the folder exists or cannot be written.
    """
    if folder.exists():
        raise ZiaError(f"{folder} already exists: move it away, or give another folder")
    check_output(folder.parent)
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        with write_errors(folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            for name, write in _PARTS.items():
                write(staging / name)
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def write_alpaca(folder: Path) -> None:
    """Write Alpaca's file with the world's instructions."""
    records = [
        {"instruction": each.instruction, "input": each.input, "output": each.output}
        for each in instructions()
    ]
    _write_json(folder / "alpaca_data.json", records)


def _scienceqa(folder: Path) -> None:
    found = problems()
    _write_json(folder / "problems.json", {pid: each.record for pid, each in found.items()})
    splits: dict[str, list[str]] = {split: [] for split in SPLITS}
    for pid, each in found.items():
        split = str(each.record["split"])
        splits[split].append(pid)
        if each.picture is not None:
            _write(folder / "images" / split / pid / "image.png", png(each.picture))
    _write_json(folder / "pid_splits.json", splits)


def write_coco(folder: Path) -> None:
    """Write COCO's annotations and images, and Karpathy's lists."""
    seen: dict[frozenset[Thing], Split] = {}
    files: dict[str, dict[str, list[Any]]] = {}
    number = 0
    for split in SPLITS:
        # As officially, validation and test are parts of val2014.
        year = "train2014" if split == "train" else "val2014"
        content = files.setdefault(year, {"images": [], "annotations": []})
        lines = []
        for _ in range(SCENES[split]):
            number += 1
            dice = Dice("coco", number)
            scene = draw_scene(dice)
            # A combination of things occurs in one split only.
            while seen.setdefault(frozenset(scene.things), split) != split:
                scene = draw_scene(dice)
            name = f"COCO_{year}_{number:012d}.png"
            _write(folder / year / name, png(draw_picture(scene, dice)))
            content["images"].append({"id": number, "file_name": name})
            content["annotations"] += [
                {"id": 10 * number + i, "image_id": number, "caption": text}
                for i, text in enumerate(captions(scene, dice))
            ]
            lines.append(f"{year}/{name} {number}\n")
        _write(folder / f"karpathy_{split}_images.txt", "".join(lines).encode())
    for year, content in files.items():
        _write_json(folder / "annotations" / f"captions_{year}.json", content)


def write_squad(folder: Path) -> None:
    """Write the four files of SQuAD v1.1 and v2.0."""
    for part in ("train", "dev"):
        for version in ("1.1", "2.0"):
            _write_json(folder / f"{part}-v{version}.json", squad(part, version))


def _vtab(folder: Path) -> None:
    for task in image_tasks.MINI:
        write_task(task, _digits(task) if task.name == DIGITS else _drawn(task), folder)


def _drawn(task: Task) -> Lists:
    def encoded(split: Split, n: int) -> list[Encoded]:
        return [
            Encoded(f"{split}/{i:04d}.png", label, png(image))
            for i, (image, label) in enumerate(examples(task.name, split, n))
        ]

    return Lists(encoded("train", task.train), encoded("val", task.val), encoded("test", task.test))


def _digits(task: Task) -> Lists:
    """scikit-learn's digits, with the first of the test images."""
    lists = digits(Path(INSTALLED), task)
    return replace(lists, test=lists.test[: task.test])


def _write_json(path: Path, value: object) -> None:
    _write(path, (json.dumps(value, indent=1) + "\n").encode())


def _write(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


_PARTS: dict[str, Callable[[Path], None]] = {
    "alpaca": write_alpaca,
    "scienceqa": _scienceqa,
    "coco": write_coco,
    "squad": write_squad,
    "vtab": _vtab,
}
