"""What a run of this experiment reads."""

import json
from functools import partial
from pathlib import Path
from typing import Any

from experiments.data.files import official_file
from experiments.data.subsets import FULL
from experiments.harness.needs import DataSet, HubData, Needs, ReadRows
from experiments.harness.spec import RunSpec
from experiments.language.methods import weights
from experiments.mini_world.provided import PROFILE as MINI
from experiments.scienceqa.data import SOURCE
from experiments.scienceqa.subsets import OWN_FOLDER, OWN_SPLIT, select
from zia_core.errors import ZiaError

# The copy that is in use; its card gives the official repository as its source, no paper names it.
HUB = "derek-thomas/ScienceQA"
SPLITS = {"train": "train", "val": "validation", "test": "test"}  # ours and the hub's
IMAGE = "image.png"
# The splits whose images are needed; `reduced-1773` and its parts have none to train on.
SEEN: dict[str, tuple[str, ...]] = {FULL: tuple(SPLITS), OWN_SPLIT: ("test",)}
CONVERTED = "partial files by `python -m experiments.scienceqa.convert`"


def _write(rows: ReadRows, folder: Path) -> None:
    """The hub's rows have no pid: they are numbered from 1, train, val, test."""
    problems: dict[str, Any] = {}
    listed: dict[str, list[str]] = {split: [] for split in SPLITS}
    for split, theirs in SPLITS.items():
        for row in rows(theirs):
            pid, image = str(len(problems) + 1), row.pop("image")
            problems[pid] = row | {"image": IMAGE if image else None, "split": split}
            listed[split].append(pid)
            if image:
                path = folder / f"scienceqa/images/{split}/{pid}/{IMAGE}"
                path.parent.mkdir(parents=True)
                path.write_bytes(image["bytes"])
    for name, content in (("problems", problems), ("pid_splits", listed)):
        (folder / f"scienceqa/{name}.json").write_text(json.dumps(content), encoding="utf-8")


def _load(name: str) -> None:
    parts = vars(select(name)).values()
    images = [problem.image for part in parts for problem in part if problem.image]
    if name in SEEN and (lost := [image for image in images if not image.is_file()]):
        raise ZiaError(f"{len(lost)} of {len(images)} images are missing, for example {lost[0]}")


def _data(name: str) -> DataSet:
    own = name == OWN_SPLIT and official_file(f"{OWN_FOLDER}/problems.json") is not None
    folder = OWN_FOLDER if own else "scienceqa"
    files = [f"{folder}/problems.json", f"{folder}/pid_splits.json"]
    files += [f"{folder}/images/{split}/" for split in SEEN.get(name, ())]
    if name == FULL:
        hub = HubData(HUB, None, _write)
        source = f"{SOURCE}: its data folder, and the train, val and test.zip that its README names"
        return DataSet("ScienceQA", tuple(files), source, partial(_load, name), hub)
    return DataSet(f"ScienceQA {name}", tuple(files), CONVERTED, partial(_load, name))


def needs(spec: RunSpec) -> Needs:
    """Weights, the image encoder if the method sees images, and the problems."""
    data = () if spec.profile == MINI else (_data(spec.data),)
    return Needs(weights(spec), data)
