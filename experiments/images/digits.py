"""scikit-learn's handwritten digits as a classification task."""

import csv
import hashlib
import importlib.util
from pathlib import Path

from experiments.data.files import read_text
from experiments.images.task_writing import Encoded, Lists, png
from experiments.images.tasks import Task
from zia_core.errors import ZiaError

INSTALLED = "scikit-learn"  # as the file: that of the installed package


def digits(file: Path, task: Task) -> Lists:
    """Read `digits.csv.gz` of scikit-learn: 64 values from 0 to 16 and a label per line.

    Values are scaled to 0 to 255. The images in neither list are the test set.
    """
    path = _installed_digits() if str(file) == INSTALLED else file
    import numpy as np

    rows = list(csv.reader(read_text(path).splitlines()))
    for number, row in enumerate(rows, start=1):
        if len(row) != 65 or not all(value.removesuffix(".0").isdecimal() for value in row):
            raise ZiaError(f"{path}, line {number} is not 64 values and a label: fetch it again")
    table = np.array(rows, dtype=np.float64)
    if table[:, :64].max() > 16:
        raise ZiaError(f"{path} holds values above 16, so it is not the digits: fetch it again")
    images = np.rint(table[:, :64] * (255 / 16)).astype(np.uint8).reshape(-1, 8, 8)
    every = [
        Encoded(f"{i:04d}.png", int(label), png(image))
        for i, (image, label) in enumerate(zip(images, table[:, 64], strict=True))
    ]
    ordered = [every[i] for i in hash_order("digits", len(every))]
    known = task.train + task.val
    rest = sorted(ordered[known:], key=lambda encoded: encoded.name)
    return Lists(ordered[: task.train], ordered[task.train : known], rest)


def _installed_digits() -> Path:
    spec = importlib.util.find_spec("sklearn")  # found, not imported: that would take a second
    if spec is None or spec.origin is None:
        raise ZiaError(f"{INSTALLED} is not installed: install it, or give its digits.csv.gz")
    return Path(spec.origin).parent / "datasets" / "data" / "digits.csv.gz"


def hash_order(prefix: str, n: int) -> list[int]:
    """Return range(n) by the SHA-256 of "PREFIX/INDEX"."""
    return sorted(range(n), key=lambda i: hashlib.sha256(f"{prefix}/{i}".encode()).digest())
