"""Partial files into the official layout, by the script that a user calls."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.scienceqa.convert import convert
from experiments.scienceqa.data import load_problems
from zia_core import ZiaError


def write_source(folder: Path) -> None:
    problems = {
        str(pid): {
            "question": f"Question {pid}?", "choices": ["a", "b"], "answer": pid % 2, "hint": "h",
            "image": "image.png" if pid > 1 else None, "grade": "grade3", "topic": "physics",
            "subject": "natural science", "split": "test" if pid > 2 else "train",
        }
        for pid in range(1, 5)
    }  # fmt: skip
    rows = [
        {"pid": str(pid), "question": f"Question {pid}?", "choices": ["a", "b"],
         "answer": pid % 2, "image_file": f"{pid % 2}.jpg"}
        for pid in (3, 4, 5)
    ]  # fmt: skip
    splits = {"train": ["1", "2"], "val": [], "test": ["3", "4", "5"], "minitest": ["3"]}
    folder.mkdir()
    for name, value in (("problems_1-1773", problems), ("test_image_questions", rows)):
        (folder / f"{name}.json.gz").write_bytes(gzip.compress(json.dumps(value).encode()))
    (folder / "pid_splits.json").write_text(json.dumps(splits))
    with zipfile.ZipFile(folder / "images_test_224.zip", "w") as archive:
        for name in ("0.jpg", "1.jpg"):
            file = io.BytesIO()
            Image.new("RGB", (8, 6), (200, 10 * int(name[0]), 0)).save(file, "JPEG")
            archive.writestr(name, file.getvalue())


def test_both_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    write_source(tmp_path / "source")
    command = [sys.executable, "-m", "experiments.scienceqa.convert"]
    done = subprocess.run(
        [*command, str(tmp_path / "source"), str(tmp_path / "data")],
        cwd=repository, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "scienceqa: 4 problems" in done.stdout
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "data"))
    full, images = load_problems("scienceqa"), load_problems("scienceqa-images")
    assert list(full) == ["1", "2", "3", "4"]
    assert list(images) == ["3", "4", "5"]
    assert images["5"].hint is None
    assert images["3"].hint == "h"
    for problems in (full, images):
        path = problems["3"].image
        assert path is not None
        with (
            Image.open(path) as image,
            zipfile.ZipFile(tmp_path / "source" / "images_test_224.zip") as archive,
            Image.open(io.BytesIO(archive.read("1.jpg"))) as original,
        ):
            assert image.format == "PNG"
            assert image.tobytes() == original.tobytes()
    assert full["2"].image is not None
    assert not full["2"].image.exists()  # images are there for test questions alone


def test_refusals_leave_nothing(tmp_path: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "data"
    with pytest.raises(ZiaError, match=r"problems_1-1773.json"):
        convert(source, dest)
    write_source(source)
    archive = source / "images_test_224.zip"
    content = archive.read_bytes()
    archive.write_bytes(content[:50])
    with pytest.raises(ZiaError, match=r"cannot read the images in .*images_test_224.zip"):
        convert(source, dest)
    with zipfile.ZipFile(archive, "w") as made:
        made.writestr("0.jpg", b"not a picture")
    with pytest.raises(ZiaError, match=r"has no image 1.jpg: fetch it again"):
        convert(source, dest)
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("1.jpg", b"not a picture")
    with pytest.raises(ZiaError, match=r"images_test_224.zip/1.jpg cannot be read as an image"):
        convert(source, dest)
    assert not dest.exists() or list(dest.iterdir()) == []
    archive.write_bytes(content)
    (dest / "scienceqa-images").mkdir(parents=True)
    with pytest.raises(ZiaError, match=r"scienceqa-images is there already: move it away"):
        convert(source, dest)
    assert [path.name for path in dest.iterdir()] == ["scienceqa-images"]
    (dest / "scienceqa-images").rmdir()
    convert(source, dest)
    assert sorted(path.name for path in dest.iterdir()) == ["scienceqa", "scienceqa-images"]
    with pytest.raises(ZiaError, match=r"scienceqa is there already: move it away"):
        convert(source, dest)


@pytest.mark.parametrize(
    ("name", "change", "sentence"),
    [
        ("problems_1-1773", lambda p: p["3"].pop("split"), "problem '3' has no field 'split'"),
        ("problems_1-1773", lambda p: p["3"].update(split="../x"), "problem '3' needs a number"),
        ("problems_1-1773", lambda p: p.update({"3": 7}), "problem '3' must be a JSON object"),
        ("test_image_questions", lambda q: q[1].pop("pid"), "record 1 has no field 'pid'"),
        ("test_image_questions", lambda q: q[1].pop("image_file"), "record 1 has no field 'image_"),
        ("test_image_questions", lambda q: q[1].pop("answer"), "record 1 has no field 'answer'"),
        ("test_image_questions", lambda q: q.append(q[0]), "record 3 has no pid of its own"),
    ],
)
def test_a_malformed_record_is_named(
    tmp_path: Path, name: str, change: Callable[[Any], object], sentence: str
) -> None:
    source, dest = tmp_path / "source", tmp_path / "data"
    write_source(source)
    path = source / f"{name}.json.gz"
    content = json.loads(gzip.decompress(path.read_bytes()))
    change(content)
    path.write_bytes(gzip.compress(json.dumps(content).encode()))
    with pytest.raises(ZiaError, match=rf"{name}.json.gz, {sentence}"):
        convert(source, dest)
    assert not dest.exists()
