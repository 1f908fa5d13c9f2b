"""A tiny LLaMA, a tiny encoder, and small data sets in both official formats."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.coco_caption import plan
from experiments.coco_caption.settings import Settings
from experiments.harness.spec import RunSpec
from experiments.language.methods import METHODS
from tests.alpaca_llama.world import write_weights
from tests.images.world import write_small_vit
from tests.scienceqa.world import COLOURS
from tests.scienceqa.world import QUICK as SCIENCEQA_QUICK

SIZES = {"train": 10, "val": 3, "test": 4}
QUICK = {k: v for k, v in SCIENCEQA_QUICK.items() if k != "context"}
QUICK |= {"max_length": 64, "epochs": 1.0, "warmup_epochs": 0.2, "evaluations": 1}


def write_flickr8k(folder: Path) -> None:
    """Pictures of one colour with two captions each, in Flickr8k's files."""
    images = folder / "Flicker8k_Dataset"
    images.mkdir(parents=True)
    tokens, number = [], 0
    for split, size in SIZES.items():
        names = []
        for _ in range(size):
            colour = list(COLOURS)[number % 3]
            name = f"{number:03d}_{colour}.jpg"
            Image.new("RGB", (20 + number, 24), COLOURS[colour]).save(images / name)
            tokens += [f"{name}#0\tA {colour} picture .", f"{name}#1\tIt is {colour} ."]
            names.append(name)
            number += 1
        official = {"val": "dev"}.get(split, split)
        (folder / f"Flickr_8k.{official}Images.txt").write_text("\n".join(names) + "\n")
    (folder / "Flickr8k.token.txt").write_text("\n".join(tokens) + "\n")


def write_coco(folder: Path) -> None:
    """The same kind of pictures in COCO's annotation format with Karpathy's lists."""
    lists: dict[str, list[str]] = {split: [] for split in SIZES}
    files: dict[str, Any] = {y: {"images": [], "annotations": []} for y in ("train2014", "val2014")}
    number = 0
    for split, size in SIZES.items():
        for i in range(size):
            number += 1
            # As officially, a part of Karpathy's training images is of val2014.
            year = "train2014" if split == "train" and i < 6 else "val2014"
            name = f"COCO_{year}_{number:012d}.jpg"
            path = folder / year / name
            path.parent.mkdir(parents=True, exist_ok=True)
            colour = list(COLOURS)[number % 3]
            Image.new("RGB", (20 + number, 24), COLOURS[colour]).save(path)
            files[year]["images"].append({"id": number, "file_name": name})
            files[year]["annotations"] += [
                {"image_id": number, "id": 10 * number + k, "caption": text}
                for k, text in enumerate((f"A {colour} picture.", f"It is {colour}."))
            ]
            lists[split].append(f"{year}/{name} {number}")
    (folder / "annotations").mkdir()
    for year, content in files.items():
        (folder / "annotations" / f"captions_{year}.json").write_text(json.dumps(content))
    for split, lines in lists.items():
        (folder / f"karpathy_{split}_images.txt").write_text("\n".join(lines) + "\n")


def prepare(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Point the environment at a world in `root`."""
    write_weights(root / "weights" / "smollm2-135m-instruct")
    write_small_vit(root / "weights" / "small-vit")
    write_flickr8k(root / "data" / "flickr8k")
    write_coco(root / "data" / "coco")
    patch.setenv("ZIA_WEIGHTS", str(root / "weights"))
    patch.setenv("ZIA_DATA", str(root / "data"))
    patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")


def spec(method: str, task: str = "flickr8k", **changes: Any) -> RunSpec:
    """A run of the tiny world."""
    own = QUICK | METHODS[method] | {"peak_lr": QUICK["peak_lr"]} | changes
    return RunSpec(
        experiment=plan.NAME,
        version=plan.VERSION,
        task=task,
        method=method,
        backbone="smollm2-135m-instruct",
        data="full",
        profile="small",
        seed=0,
        settings=replace(Settings(), **own),
    )
