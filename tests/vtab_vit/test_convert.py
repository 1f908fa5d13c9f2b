import csv
import gzip
import io
import json
import os
import struct
import subprocess
import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from experiments.images.digits import digits
from experiments.images.task_folder import TaskData, contents, load_task, read_image
from experiments.images.task_writing import Encoded, Lists, write_task
from experiments.vtab_vit.sources import SOURCES, caltech101, cifar10, dtd10, fashion_mnist
from experiments.vtab_vit.tasks import get
from tests.vtab_vit.folders import TINY, grey
from zia_core.errors import ZiaError

LISTS = ("train800.txt", "val200.txt", "train800val200.txt", "test.txt")


def lists() -> Lists:
    encoded = [Encoded(f"a/{n}.png", n % 3, grey(10 * n, 5)) for n in range(9)]
    return Lists(encoded[:4], encoded[4:6], encoded[6:])


def names(data: TaskData) -> list[list[tuple[str, int]]]:
    parts = (data.train, data.val, data.test)
    return [[(each.name.removeprefix("images/"), each.label) for each in part] for part in parts]


def test_the_layout_is_the_field_s_and_images_stay_as_they_are(tmp_path: Path) -> None:
    data = write_task(TINY, lists(), tmp_path / "new" / "vtab")
    folder = tmp_path / "new" / "vtab" / "tiny"
    assert data.folder == folder
    assert sorted(path.name for path in folder.iterdir()) == sorted(["images", *LISTS])
    assert (folder / "val200.txt").read_text() == "images/a/4.png 1\nimages/a/5.png 2\n"
    both = (folder / "train800.txt").read_text() + (folder / "val200.txt").read_text()
    assert (folder / "train800val200.txt").read_text() == both
    assert (folder / "images" / "a" / "7.png").read_bytes() == grey(70, 5)
    assert [path.name for path in folder.parent.iterdir()] == ["tiny"]


def test_a_second_run_changes_nothing(tmp_path: Path) -> None:
    first = write_task(TINY, lists(), tmp_path)
    times = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")}
    assert write_task(TINY, lists(), tmp_path) == first
    assert {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*")} == times


def test_what_is_there_is_never_replaced(tmp_path: Path) -> None:
    write_task(TINY, lists(), tmp_path)
    for damaged in (False, True):
        changed = tmp_path / "tiny" / "images" / "a" / "7.png"
        changed.write_bytes(b"" if damaged else grey(71, 5))
        with pytest.raises(ZiaError, match=r"tiny is there already and does not hold what this"):
            write_task(TINY, lists(), tmp_path)
        assert [path.name for path in tmp_path.iterdir()] == ["tiny"]


def test_a_source_that_does_not_fit_leaves_nothing(tmp_path: Path) -> None:
    good = lists()
    wrong_label = Lists(good.train, good.val, [*good.test[:2], Encoded("a/9.png", 3, grey(1))])
    with pytest.raises(ZiaError, match=r"test\.txt, line 3 has the label 3"):
        write_task(TINY, wrong_label, tmp_path)
    with pytest.raises(ZiaError, match="lists 2 images where tiny has 3"):
        write_task(TINY, Lists(good.train, good.val, good.test[:2]), tmp_path)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "file").write_text("")
    with pytest.raises(ZiaError, match=r"cannot write .*file/tiny: Not a directory"):
        write_task(TINY, good, tmp_path / "file")


def test_a_killed_conversion_leaves_no_task(tmp_path: Path, repository: Path) -> None:
    """Killed as it moves the complete folder; the next run starts afresh."""
    code = (
        "import os, signal\n"
        "from pathlib import Path\n"
        "from experiments.images.task_writing import write_task\n"
        "from tests.vtab_vit.test_convert import lists\n"
        "from tests.vtab_vit.folders import TINY\n"
        "os.sync = lambda: os.kill(os.getpid(), signal.SIGKILL)\n"
        f"write_task(TINY, lists(), Path({str(tmp_path)!r}))\n"
    )
    environment = os.environ | {"PYTHONPATH": str(repository)}
    done = subprocess.run([sys.executable, "-c", code], cwd=repository, env=environment)
    assert done.returncode == -9
    left = [path.name for path in tmp_path.iterdir()]
    assert len(left) == 1
    assert left[0].startswith(".tiny.")
    assert len(write_task(TINY, lists(), tmp_path).test) == 3


def zipped(folder: Path, splits: dict[str, Any], left_out: str = "") -> Path:
    folder.mkdir()
    with zipfile.ZipFile(folder / "images_96.zip", "w") as archive:
        for kind in ("b", "a"):
            for n in range(5):
                if (name := f"{kind}/{n}.jpg") != left_out:
                    archive.writestr(name, f"{kind}{n}")
    (folder / "splits.json.gz").write_bytes(gzip.compress(json.dumps(splits).encode()))
    return folder


def splits(train: str, val: str) -> dict[str, list[str]]:
    return {
        "classes": ["b", "a"],
        train: ["a/1.jpg", "b/0.jpg"],
        val: ["b/4.jpg"],
        "test": ["a/0.jpg"],
    }


@pytest.mark.parametrize(
    ("read", "train", "val"),
    [(caltech101, "vtab_train800", "vtab_val200"), (dtd10, "train640", "val160")],
)
def test_a_zip_with_lists(tmp_path: Path, read: Any, train: str, val: str) -> None:
    found = read(zipped(tmp_path / "set", splits(train, val)), TINY)
    # The classes are numbered as `classes` lists them, not alphabetically.
    assert found.train == [Encoded("a/1.jpg", 1, b"a1"), Encoded("b/0.jpg", 0, b"b0")]
    assert found.val == [Encoded("b/4.jpg", 0, b"b4")]
    assert found.test == [Encoded("a/0.jpg", 1, b"a0")]


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"test": None}, "splits.json.gz must be a JSON object with a list 'test'"),
        ({"test": ["c/0.jpg"]}, "lists 'c/0.jpg' in test, which is of no class"),
        ({"test": ["a/../../b.jpg"]}, "lists 'a/../../b.jpg' in test, which is of no class"),
        ({"test": ["a/7.jpg"]}, "images_96.zip lacks an image that is listed: There is no item"),
    ],
)
def test_a_bad_zip_source_is_one_sentence(
    tmp_path: Path, change: dict[str, Any], sentence: str
) -> None:
    folder = zipped(tmp_path / "set", splits("train640", "val160") | change)
    with pytest.raises(ZiaError) as caught:
        dtd10(folder, TINY)
    assert sentence in str(caught.value)
    (folder / "images_96.zip").write_bytes(b"PK")
    with pytest.raises(ZiaError, match=r"splits\.json|cannot read the images in .*images_96\.zip"):
        dtd10(folder, TINY)


def jpeg_arrays(path: Path, files: list[bytes], labels: list[int], order: list[int]) -> None:
    np.savez(
        path,
        jpeg=np.frombuffer(b"".join(files), np.uint8),
        offsets=np.cumsum([0, *map(len, files)]),
        labels=np.array(labels, np.uint8),
        order_sha256=np.array(order, np.int32),
    )


def test_jpegs_in_arrays(tmp_path: Path) -> None:
    train = [bytes([65 + n]) * (n + 1) for n in range(7)]
    jpeg_arrays(
        tmp_path / "cifar10_train_jpeg", train, [0, 0, 1, 1, 2, 2, 2], [3, 0, 6, 2, 5, 1, 4]
    )
    jpeg_arrays(tmp_path / "cifar10_test_jpeg", [b"x", b"yy", b"z"], [2, 1, 0], [2, 1, 0])
    found = cifar10(tmp_path, TINY)
    assert found.train == [
        Encoded("train/00003.jpg", 1, b"DDDD"),
        Encoded("train/00000.jpg", 0, b"A"),
        Encoded("train/00006.jpg", 2, b"GGGGGGG"),
        Encoded("train/00002.jpg", 1, b"CCC"),
    ]
    assert [each.name for each in found.val] == ["train/00005.jpg", "train/00001.jpg"]
    assert [(each.label, each.content) for each in found.test] == [(2, b"x"), (1, b"yy"), (0, b"z")]

    jpeg_arrays(tmp_path / "cifar10_test_jpeg", [b"x"], [2, 1], [1, 0])
    with pytest.raises(ZiaError, match=r"cifar10_test_jpeg\.npz do not fit one another"):
        cifar10(tmp_path, TINY)
    np.savez(tmp_path / "cifar10_test_jpeg", jpeg=np.zeros(3, np.uint8))
    with pytest.raises(ZiaError, match=r"cannot read .*cifar10_test_jpeg\.npz .*offsets"):
        cifar10(tmp_path, TINY)
    (tmp_path / "cifar10_test_jpeg.npz").unlink()
    with pytest.raises(ZiaError, match=r"cannot read .*cifar10_test_jpeg\.npz .*No such file"):
        cifar10(tmp_path, TINY)


def write_idx(path: Path, values: np.ndarray[Any, np.dtype[np.uint8]]) -> None:
    header = struct.pack(">HBB", 0, 8, values.ndim) + struct.pack(f">{values.ndim}I", *values.shape)
    path.write_bytes(gzip.compress(header + values.tobytes()))


def test_idx_files(tmp_path: Path) -> None:
    images = np.arange(7 * 2 * 3, dtype=np.uint8).reshape(7, 2, 3)
    for part, n in (("train", 7), ("t10k", 3)):
        write_idx(tmp_path / f"{part}-images-idx3-ubyte.gz", images[:n])
        write_idx(tmp_path / f"{part}-labels-idx1-ubyte.gz", np.arange(n, dtype=np.uint8) % 3)
    found = fashion_mnist(tmp_path, TINY)
    chosen = [each.name for each in found.train + found.val]
    assert len(set(chosen)) == 6
    assert chosen == [f"train/0000{n}.png" for n in (4, 1, 3, 2, 5, 0)]  # pinned: a hash's order
    assert [(each.name, each.label) for each in found.test] == [
        ("test/00000.png", 0),
        ("test/00001.png", 1),
        ("test/00002.png", 2),
    ]
    assert np.array_equal(Image.open(io.BytesIO(found.train[0].content)), images[4])

    write_idx(tmp_path / "t10k-labels-idx1-ubyte.gz", np.arange(2, dtype=np.uint8))
    with pytest.raises(ZiaError, match=r"labels-idx1-ubyte\.gz has 2 labels for 3 images"):
        fashion_mnist(tmp_path, TINY)


@pytest.mark.parametrize(
    "content",
    [
        gzip.compress(struct.pack(">HBBII", 0, 8, 1, 2, 0)),  # of another length than it says
        gzip.compress(struct.pack(">HBBI", 0, 9, 1, 1) + b"a"),  # signed bytes
        gzip.compress(struct.pack(">HBBIII", 0, 8, 3, 1, 1, 1) + b"a"),  # three dimensions
        gzip.compress(b"\0\0"),
        gzip.compress(struct.pack(">HBBI", 0, 8, 1, 1) + b"a")[:-9],
        b"\0\0\x08\x01\0\0\0\x01a",
    ],
    # gzip's bytes hold the time, and test processes must agree on the names of the tests.
    ids=["length", "type", "dimensions", "no-header", "cut-off", "not-gzip"],
)
def test_a_file_that_is_not_idx_is_named(tmp_path: Path, content: bytes) -> None:
    write_idx(tmp_path / "train-images-idx3-ubyte.gz", np.zeros((1, 2, 2), np.uint8))
    (tmp_path / "train-labels-idx1-ubyte.gz").write_bytes(content)
    with pytest.raises(ZiaError, match=r"labels-idx1-ubyte\.gz is not (an idx|a complete gzip)"):
        fashion_mnist(tmp_path, TINY)


def test_digits_and_the_command(tmp_path: Path, repository: Path) -> None:
    generator = np.random.default_rng(1)
    values = generator.integers(0, 17, (1797, 64))
    path = tmp_path / "digits.csv.gz"
    with gzip.open(path, "wt", newline="") as file:
        csv.writer(file).writerows([*row, n % 10] for n, row in enumerate(values.tolist()))
    command = [sys.executable, "-m", "experiments.vtab_vit.convert", "digits"]
    command += [str(path), str(tmp_path / "vtab")]
    outputs = [
        subprocess.run(command, cwd=repository, capture_output=True, text=True) for _ in range(2)
    ]
    assert [done.returncode for done in outputs] == [0, 0], outputs
    data = load_task(get("digits"), tmp_path / "vtab" / "digits")
    expected = (
        f"{tmp_path}/vtab/digits: 800 + 200 training and 797 test images, 0 of which are training "
        f"images too; sha256 {contents(data).fingerprint}\n"
    )
    assert [done.stdout for done in outputs] == [expected, expected]
    for example in (*data.train[:3], *data.test[:3]):
        number = int(example.path.stem)
        assert example.label == number % 10
        decoded = np.array(read_image(example))[..., 0].reshape(-1)
        # 16 is white: 255 / 16 = 15.9375 a step.
        assert decoded.tolist() == np.rint(values[number] * 15.9375).tolist()
    assert data.train[0].name == "images/1254.png"  # pinned: a hash's order

    path.write_bytes(gzip.compress(b"1,2,3\n"))
    failed = subprocess.run(command, cwd=repository, capture_output=True, text=True)
    assert failed.returncode == 1
    assert failed.stderr == f"error: {path}, line 1 is not 64 values and a label: fetch it again\n"


def test_digits_are_scikit_learn_s() -> None:
    datasets = pytest.importorskip("sklearn.datasets")
    bunch = datasets.load_digits()
    task = get("digits")
    found = digits(Path("scikit-learn"), task)
    assert (len(found.train), len(found.val), len(found.test)) == (800, 200, 797)
    for each in found.train[:50] + found.test[:50]:
        number = int(each.name.removesuffix(".png"))
        assert each.label == bunch.target[number]
        expected = np.rint(bunch.images[number] * 15.9375)
        assert np.array_equal(Image.open(io.BytesIO(each.content)), expected)


@pytest.mark.parametrize("kind", ["caltech101", "dtd10", "cifar10"])
def test_the_real_sets(shared_dir: Path, tmp_path: Path, kind: str) -> None:
    name, read = SOURCES[kind]
    source = shared_dir / "data" / kind
    data = write_task(get(name), read(source, get(name)), tmp_path)
    assert {each.label for each in data.test} == set(range(data.task.classes))
    assert contents(data).shared == 0
    for example in (data.train[0], data.val[-1], data.test[-1]):
        assert read_image(example).mode == "RGB"
    if kind != "cifar10":
        with zipfile.ZipFile(source / "images_96.zip") as images:
            listed = data.test[7].name.removeprefix("images/")
            assert data.test[7].path.read_bytes() == images.read(listed)
