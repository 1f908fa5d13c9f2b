"""Partial files into the official layout, by the script that a user calls."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

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
    with pytest.raises(ZiaError, match=r"has no image 1.jpg"):
        convert(source, dest)
    with zipfile.ZipFile(archive, "a") as made:
        made.writestr("1.jpg", b"not a picture")
    with pytest.raises(ZiaError, match=r"images_test_224.zip/1.jpg is not an image"):
        convert(source, dest)
    assert not dest.exists() or list(dest.iterdir()) == []
    archive.write_bytes(content)
    convert(source, dest)
    with pytest.raises(ZiaError, match=r"scienceqa is there already: move it away"):
        convert(source, dest)
