"""A task's images and labels, from the folder layout that the field shares.

`$ZIA_DATA/vtab/<task>/` holds images (by custom in `images/`) and four lists, each line of which
is an image's path in that folder, a space, and its label from 0: `train800.txt`, `val200.txt`,
`train800val200.txt`, `test.txt`. The customary export writes every image once per list, as a JPEG
of its own, so the same image has another path in the third list than in the first two.
"""

import hashlib
import os
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from experiments.data.files import DATA_VARIABLE, read_text
from experiments.images.image_files import opened, read_rgb
from experiments.images.tasks import Task
from experiments.io.safe_names import inside
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from PIL.Image import Image

FOLDER = "vtab"
Split = Literal["train", "val", "train_val", "test"]
LISTS: dict[Split, str] = {
    "train": "train800.txt",
    "val": "val200.txt",
    "train_val": "train800val200.txt",
    "test": "test.txt",
}
# Groups of lists that must not share an image: one is trained on, another is not.
_APART: tuple[tuple[Split, ...], ...] = (("train", "val", "test"), ("train_val", "test"))


@dataclass(frozen=True, slots=True)
class Example:
    """One line of a list: an image and its label."""

    name: str  # the path in the task's folder, with slashes; the id of predictions
    label: int
    path: Path
    where: str  # the list and the line, for messages


@dataclass(frozen=True)
class TaskData:
    """The examples of a task, in the order of its lists.

    Settings are chosen by training on `train` and evaluating on `val`. Reported runs are trained on
    `train_val`, both together, and evaluated once on `test`.
    """

    task: Task
    folder: Path
    train: tuple[Example, ...]
    val: tuple[Example, ...]
    train_val: tuple[Example, ...]
    test: tuple[Example, ...]

    def split(self, name: Split) -> tuple[Example, ...]:
        """The examples of one list."""
        return {
            "train": self.train,
            "val": self.val,
            "train_val": self.train_val,
            "test": self.test,
        }[name]


@dataclass(frozen=True)
class Contents:
    """The fingerprint of a task's files, and a count."""

    fingerprint: str  # a SHA-256 of all images, labels, paths and their order
    shared: int  # test images that are, byte for byte, training images too


def load_task(task: Task, folder: Path | None = None) -> TaskData:
    """Read and check the lists of `task` in `folder` (default: `$ZIA_DATA/vtab/<task>`).

    The header of every listed image is read.

    Raises:
        ZiaError: names the file and the line: a list or an image is missing, a line is not a path
            and a label, a label is not one of the task's, a path leaves the folder, a file is not
            an image, a list has the wrong length, an image is listed twice or is both trained and
            tested on, or `train800val200.txt` is not the other two.
    """
    root = folder or task_folder(task)
    lists = {split: _read_list(root, split, task) for split in LISTS}
    for group in _APART:
        seen: dict[str, str] = {}
        for example in (example for split in group for example in lists[split]):
            if first := seen.get(example.name):
                raise ZiaError(
                    f"{example.where} lists the image {example.name} again, after {first}: "
                    "every image must be in one part of the data, once"
                )
            seen[example.name] = example.where
    labels = {split: Counter(example.label for example in lists[split]) for split in LISTS}
    if labels["train"] + labels["val"] != labels["train_val"]:
        raise ZiaError(
            f"{root / LISTS['train_val']} has other labels than {LISTS['train']} and "
            f"{LISTS['val']} together: write the three lists from the same examples"
        )
    return TaskData(task, root, lists["train"], lists["val"], lists["train_val"], lists["test"])


def task_folder(task: Task) -> Path:
    """`$ZIA_DATA/vtab/<task>`; ZiaError if it does not exist."""
    data = os.environ.get(DATA_VARIABLE)
    folder = Path(data or "", FOLDER, task.name)
    if data and folder.is_dir():
        return folder
    fault = (
        f"{folder} does not exist (${DATA_VARIABLE})" if data else f"${DATA_VARIABLE} is not set"
    )
    raise ZiaError(
        f"no data for the task {task.name}: {fault}; put the task's images and lists, in the "
        f"customary VTAB-1k layout, into the folder {FOLDER}/{task.name} of ${DATA_VARIABLE}"
    )


def read_image(example: Example) -> "Image":
    """The decoded image in RGB; ZiaError names the file and the line if it cannot be decoded."""
    with _present(example):
        return read_rgb(example.path, _named(example))


def contents(data: TaskData) -> Contents:
    """Hash every listed file.

    Some public sets repeat images across their parts, so that is counted and not refused.
    """
    digests: dict[str, str] = {}
    for split in LISTS:
        for example in data.split(split):
            if example.name not in digests:
                with _present(example):
                    content = example.path.read_bytes()
                digests[example.name] = hashlib.sha256(content).hexdigest()
    listing = "".join(
        f"{split}\t{example.name}\t{example.label}\t{digests[example.name]}\n"
        for split in LISTS
        for example in data.split(split)
    )
    trained = {digests[example.name] for example in data.train + data.val + data.train_val}
    shared = sum(digests[example.name] in trained for example in data.test)
    return Contents(hashlib.sha256(listing.encode()).hexdigest(), shared)


def _read_list(root: Path, split: Split, task: Task) -> tuple[Example, ...]:
    path = root / LISTS[split]
    lines = read_text(path).split("\n")
    examples = tuple(
        _example(root, line, f"{path}, line {number}", task)
        for number, line in enumerate(lines, start=1)
        if line.strip()
    )
    expected = {"train": task.train, "val": task.val, "test": task.test}
    length = expected.get(split, task.train + task.val)
    if len(examples) != length:
        raise ZiaError(
            f"{path} lists {len(examples)} images where {task.name} has {length}: fetch the lists "
            "again, or the numbers are not those of this task"
        )
    for example in examples:
        with _present(example), opened(example.path, _named(example)):
            pass
    return examples


def _example(root: Path, line: str, where: str, task: Task) -> Example:
    name, _, label = line.strip().rpartition(" ")
    if not name or not (label.isascii() and label.isdigit()):
        raise ZiaError(f"{where} must be an image's path, a space and a label, not {line!r:.80}")
    if int(label) >= task.classes:
        raise ZiaError(
            f"{where} has the label {label}: {task.name} has {task.classes} classes, "
            f"0 to {task.classes - 1}"
        )
    relative = PurePosixPath(name.strip()).as_posix()
    return Example(relative, int(label), inside(root, relative, where), where)


def _named(example: Example) -> str:
    return f"{example.path}, which {example.where} names,"


@contextmanager
def _present(example: Example) -> Iterator[None]:
    """Turn the failure to read an image file into a ZiaError."""
    try:
        yield
    except FileNotFoundError as error:
        raise ZiaError(
            f"{example.where} names the image {example.path}, which is missing: put it there or "
            "fetch the images again"
        ) from error
    except OSError as error:
        raise ZiaError(
            f"{_named(example)} cannot be read ({error.strerror}): fetch it again"
        ) from error
