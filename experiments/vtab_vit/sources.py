"""Read image sets in other layouts, for `convert`.

Encoded images are not changed; arrays become PNG. A set without 800/200 lists gets the first images
of its training part in the order of a hash of their names, which depends neither on the order of
the files nor on a random generator.
"""

import gzip
import math
import zipfile
import zlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from experiments.data.files import parse_json, read_text
from experiments.images.digits import digits, hash_order
from experiments.images.jpeg_arrays import JpegArrays, read_jpeg_arrays
from experiments.images.task_writing import Encoded, Lists, png
from experiments.images.tasks import Task
from experiments.io.safe_names import is_plain
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def caltech101(folder: Path, task: Task) -> Lists:
    """`images_96.zip` and `splits.json.gz` with the lists vtab_train800, vtab_val200, test."""
    return _zipped(folder, "vtab_train800", "vtab_val200", "test")


def dtd10(folder: Path, task: Task) -> Lists:
    """`images_96.zip` and `splits.json.gz` with the lists train640, val160, test."""
    return _zipped(folder, "train640", "val160", "test")


def cifar10(folder: Path, task: Task) -> Lists:
    """`cifar10_train_jpeg.npz` and `cifar10_test_jpeg.npz`; the lists follow their stored order."""
    train, test = (
        read_jpeg_arrays(folder / f"cifar10_{part}_jpeg.npz") for part in ("train", "test")
    )

    def encoded(arrays: JpegArrays, part: str, indices: Sequence[int]) -> list[Encoded]:
        return [
            Encoded(f"{part}/{i:05d}.jpg", int(arrays.labels[i]), arrays.file(i)) for i in indices
        ]

    order = train.order.tolist()
    return Lists(
        encoded(train, "train", order[: task.train]),
        encoded(train, "train", order[task.train : task.train + task.val]),
        encoded(test, "test", range(len(test.labels))),
    )


def fashion_mnist(folder: Path, task: Task) -> Lists:
    """The four idx files of Fashion-MNIST (or MNIST), as its authors and Debian ship them."""
    parts = []
    for part, name in (("train", "train"), ("test", "t10k")):
        images = read_idx(folder / f"{name}-images-idx3-ubyte.gz", 3)
        path = folder / f"{name}-labels-idx1-ubyte.gz"
        labels = read_idx(path, 1)
        if len(labels) != len(images):
            raise ZiaError(f"{path} has {len(labels)} labels for {len(images)} images: fetch both")
        parts.append((part, images, labels))

    def encoded(which: int, indices: Sequence[int]) -> list[Encoded]:
        part, images, labels = parts[which]
        return [Encoded(f"{part}/{i:05d}.png", int(labels[i]), png(images[i])) for i in indices]

    order = hash_order("fashion_mnist/train", len(parts[0][1]))
    return Lists(
        encoded(0, order[: task.train]),
        encoded(0, order[task.train : task.train + task.val]),
        encoded(1, range(len(parts[1][1]))),
    )


# What each kind of source makes, and how it is read: from its folder, digits from their file.
SOURCES: dict[str, tuple[str, Callable[[Path, Task], Lists]]] = {
    "caltech101": ("caltech101_96", caltech101),
    "dtd10": ("dtd10_96", dtd10),
    "cifar10": ("cifar10", cifar10),
    "digits": ("digits", digits),
    "fashion_mnist": ("fashion_mnist", fashion_mnist),
}


def read_idx(path: Path, dimensions: int) -> "NDArray[np.uint8]":
    """Read a gzip idx file of bytes, the format of MNIST.

    Two zero bytes, 8 for unsigned bytes, the number of dimensions; the size of each, 4 bytes, the
    highest first; the values. ZiaError for anything else.
    """
    import numpy as np

    try:
        content = gzip.decompress(path.read_bytes())
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ZiaError(f"{path} is not a complete gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror}") from error
    start = 4 + 4 * dimensions
    shape = [int.from_bytes(content[at : at + 4], "big") for at in range(4, start, 4)]
    if content[:4] != bytes([0, 0, 8, dimensions]) or len(content) != start + math.prod(shape):
        raise ZiaError(
            f"{path} is not an idx file of bytes in {dimensions} dimensions: fetch it again"
        )
    return np.frombuffer(content, np.uint8, offset=start).reshape(shape)


def _zipped(folder: Path, train: str, val: str, test: str) -> Lists:
    """Images in `images_96.zip` at CLASS/FILE, listed by `splits.json.gz`."""
    path = folder / "splits.json.gz"
    splits = parse_json(read_text(path), str(path))
    for key in ("classes", train, val, test):
        listed = splits.get(key) if isinstance(splits, dict) else None
        if not isinstance(listed, list) or not all(isinstance(name, str) for name in listed):
            raise ZiaError(f"{path} must be a JSON object with a list {key!r}: fetch it again")
    labels = {name: label for label, name in enumerate(splits["classes"])}
    archive = folder / "images_96.zip"
    with _zip_errors(archive), zipfile.ZipFile(archive) as images:

        def encoded(key: str) -> list[Encoded]:
            found = []
            for name in splits[key]:
                label = labels.get(name.split("/")[0])
                if label is None or not is_plain(name):
                    raise ZiaError(f"{path} lists {name!r:.80} in {key}, which is of no class")
                found.append(Encoded(name, label, images.read(name)))
            return found

        return Lists(encoded(train), encoded(val), encoded(test))


@contextmanager
def _zip_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except KeyError as error:
        raise ZiaError(f"{path} lacks an image that is listed: {error.args[0]}") from error
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile) as error:
        raise ZiaError(f"cannot read the images in {path} ({error}): fetch it again") from error
