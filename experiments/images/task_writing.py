"""Write a classification task in the layout that `task_folder` reads."""

import io
import os
import secrets
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.images.task_folder import LISTS, TaskData, contents, load_task
from experiments.images.tasks import Task
from experiments.io.files import write_errors
from experiments.io.safe_names import inside
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Encoded:
    """An image file to be written; `name` is its path in `images/`."""

    name: str
    label: int
    content: bytes


@dataclass(frozen=True)
class Lists:
    """The three parts of a task."""

    train: list[Encoded]
    val: list[Encoded]
    test: list[Encoded]


def png(image: "NDArray[np.uint8]") -> bytes:
    """The PNG file of an image (H, W) or (H, W, 3)."""
    from PIL import Image

    buffer = io.BytesIO()
    # Not compressed, so that the bytes and the fingerprint do not depend on Pillow's zlib.
    Image.fromarray(image).save(buffer, "PNG", compress_level=0)
    return buffer.getvalue()


def write_task(task: Task, lists: Lists, dest: Path) -> TaskData:
    """Write the folder `dest/<task>`; it appears complete and checked, or not at all.

    An existing folder is not changed: it is returned if it has these images and lists.

    Raises:
        ZiaError: as in `load_task`; the folder has other content; or it cannot be written.
    """
    target = dest / task.name
    # In `dest`, so that it can be moved; the name says whose it is after a crash.
    staging = dest / f".{task.name}.{secrets.token_hex(6)}"
    try:
        with write_errors(target):
            _write(lists, staging)
        written = load_task(task, staging)
        if target.exists():
            return _same(task, target, written)
        with write_errors(target):
            os.sync()  # once for thousands of files
            staging.rename(target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return load_task(task, target)


def _write(lists: Lists, folder: Path) -> None:
    parts = {
        "train": lists.train,
        "val": lists.val,
        "train_val": lists.train + lists.val,
        "test": lists.test,
    }
    for encoded in lists.train + lists.val + lists.test:
        path = inside(folder / "images", encoded.name, "the source")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encoded.content)
    for split, name in LISTS.items():
        (folder / name).write_text("".join(map(_line, parts[split])), encoding="utf-8")


def _line(encoded: Encoded) -> str:
    return f"images/{encoded.name} {encoded.label}\n"


def _same(task: Task, target: Path, written: TaskData) -> TaskData:
    try:
        present = load_task(task, target)
        same = contents(present).fingerprint == contents(written).fingerprint
    except ZiaError:
        same = False
    if not same:
        raise ZiaError(
            f"{target} is there already and does not hold what this source gives: move it away"
        )
    return present
