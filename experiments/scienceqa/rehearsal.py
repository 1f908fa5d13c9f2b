"""ScienceQA's runs in a few steps; the loader counts 21,208 problems, so generated ones repeat."""

import json
import os
from collections.abc import Mapping
from dataclasses import replace
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from experiments.data.subsets import SAMPLE, SAMPLE_TRAINED
from experiments.harness.rehearsal import Rehearsal
from experiments.harness.spec import RunSpec
from experiments.images.task_writing import png
from experiments.mini_world.exams import problems
from experiments.scienceqa.data import SIZES
from experiments.training.rehearsed import two_steps

DRAWN = 24  # different problems of a split


def shorten(spec: RunSpec) -> RunSpec:
    """Train on the first problems, and answer with two tokens."""
    changes = two_steps(spec.settings, SAMPLE_TRAINED) | {"new_tokens": 2}
    return replace(spec, data=SAMPLE, settings=replace(spec.settings, **changes))


def write(folder: Path) -> None:
    """Write as many problems as there officially are; images that repeat are hard links."""
    made = list(problems().values())
    records: dict[str, Mapping[str, Any]] = {}
    splits: dict[str, list[str]] = {}
    for split, size in SIZES.items():
        drawn = [each for each in made if each.record["split"] == split][:DRAWN]
        pids = range(len(records) + 1, len(records) + 1 + size)
        splits[split] = list(map(str, pids))
        images: dict[int, Path] = {}
        for pid, problem in zip(splits[split], islice(cycle(drawn), size), strict=True):
            records[pid] = problem.record
            if problem.picture is None:
                continue
            image = folder / "images" / split / pid / "image.png"
            image.parent.mkdir(parents=True)
            if (first := images.setdefault(id(problem), image)) is image:
                image.write_bytes(png(problem.picture))
            else:
                os.link(first, image)
    (folder / "problems.json").write_text(json.dumps(records), encoding="utf-8")
    (folder / "pid_splits.json").write_text(json.dumps(splits), encoding="utf-8")


REHEARSAL = Rehearsal(shorten, {"scienceqa": write})
