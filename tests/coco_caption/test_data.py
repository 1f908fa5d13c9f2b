"""Both official formats, and every way in which they can be malformed."""

import gzip
import io
import json
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from PIL import Image

from experiments.coco_caption import data
from experiments.coco_caption.convert import convert
from experiments.coco_caption.data import fingerprint, load_captions, select
from tests.coco_caption.world import SIZES, write_coco, write_flickr8k
from zia_core import ZiaError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_flickr8k(tmp_path / "flickr8k")
    write_coco(tmp_path / "coco")
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    return tmp_path


@pytest.mark.parametrize("task", data.TASKS)
def test_images_with_all_their_captions(root: Path, task: str) -> None:
    splits = load_captions(task)
    assert {name: len(part) for name, part in vars(splits).items()} == SIZES
    for part in vars(splits).values():
        for each in part:
            assert each.image.is_file()
            assert len(each.captions) == 2
    first = splits.train[0]
    assert first.id == (1 if task == "coco" else "000_red.jpg")
    assert first.captions[0].startswith("A ")
    assert fingerprint(splits.train) != fingerprint(splits.train[::-1])


def test_gzip_is_the_same(root: Path) -> None:
    before = load_captions("coco")
    for path in [*(root / "coco" / "annotations").iterdir(), *(root / "coco").glob("*.txt")]:
        path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes()))
        path.unlink()
    assert load_captions("coco") == before


def test_reduced_budgets_are_the_first_of_each_list(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(data.REDUCED, "reduced-300", (4, 1, 2))
    whole, some = select("flickr8k", "full"), select("flickr8k", "reduced-300")
    assert some.train == whole.train[:4]
    assert (some.val, some.test) == (whole.val[:1], whole.test[:2])
    with pytest.raises(ZiaError, match="no data named 'tiny'; there are: full, reduced-300"):
        select("flickr8k", "tiny")


def edit(path: Path, old: str, new: str) -> None:
    content = path.read_text()
    assert old in content
    path.write_text(content.replace(old, new, 1))


def test_malformed_flickr8k_is_named(root: Path) -> None:
    tokens, test = root / "flickr8k/Flickr8k.token.txt", root / "flickr8k/Flickr_8k.testImages.txt"
    edit(test, "013_green.jpg", "999_pink.jpg")
    with pytest.raises(ZiaError, match=r"testImages.txt, line 1: the image '999_pink.jpg' has no"):
        load_captions("flickr8k")
    edit(test, "999_pink.jpg", "000_red.jpg")
    with pytest.raises(ZiaError, match=r"the image '000_red\.jpg' is in the lists train and test"):
        load_captions("flickr8k")
    for wrong in ("000_red.jpg A red", "000_red.jpg#0\t "):
        content = tokens.read_text()
        tokens.write_text(wrong + "\n" + content)
        with pytest.raises(ZiaError, match=r"Flickr8k.token.txt, line 1 must be like 'NAME.jpg#0"):
            load_captions("flickr8k")
        tokens.write_text(content)
    tokens.unlink()
    with pytest.raises(ZiaError, match=r"Flickr8k.token.txt\[.gz\] does not exist .*flickr8k/ of"):
        load_captions("flickr8k")


def test_malformed_coco_is_named(root: Path) -> None:
    path = root / "coco/annotations/captions_val2014.json"
    original = path.read_text()
    edit(path, '"image_id": 7', '"image_id": 707')
    with pytest.raises(ZiaError, match=r"annotations\[0\]: its image 707 is not under 'images'"):
        load_captions("coco")  # a caption without its image
    content = json.loads(original)
    content["annotations"] = [a for a in content["annotations"] if a["image_id"] != 12]
    path.write_text(json.dumps(content))
    with pytest.raises(ZiaError, match=r"karpathy_val_images.txt, line 2: the image 12 has no"):
        load_captions("coco")
    path.write_text(original)
    lines = root / "coco/karpathy_test_images.txt"
    edit(lines, "val2014/", "val2017/")
    with pytest.raises(ZiaError, match=r"line 1 must be like 'val2014/NAME.jpg 42'"):
        load_captions("coco")
    lines.unlink()
    with pytest.raises(ZiaError, match=r"karpathy_test_images.txt\[.gz\] does not exist"):
        load_captions("coco")


def test_conversion(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path) -> None:
    source, dest = tmp_path / "source", tmp_path / "data"
    source.mkdir()
    dest.mkdir()
    rows = [
        {"file": f"{i}.jpg", "split": split, "captions": [f"Caption {k} ." for k in range(5)]}
        for i, split in enumerate(("train", "train", "dev", "test", "unused"))
    ]
    file = io.BytesIO()
    Image.new("RGB", (4, 4)).save(file, "JPEG")
    with zipfile.ZipFile(source / "images_128.zip", "w") as archive:
        for row in rows[:-1]:
            archive.writestr(str(row["file"]), file.getvalue())
    (source / "captions.json.gz").write_bytes(gzip.compress(json.dumps(rows).encode()))
    with pytest.raises(ZiaError, match=r"images_128.zip has no image 4\.jpg"):
        convert(source, dest)
    assert list(dest.iterdir()) == []
    with zipfile.ZipFile(source / "images_128.zip", "a") as archive:
        archive.writestr("4.jpg", file.getvalue())
    command = [sys.executable, "-m", "experiments.coco_caption.convert", str(source), str(dest)]
    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)
    assert done.stdout.endswith("flickr8k: 5 images\n"), done.stderr
    monkeypatch.setenv("ZIA_DATA", str(dest))
    splits = load_captions("flickr8k")
    assert [len(part) for part in vars(splits).values()] == [2, 1, 1]
    assert splits.val[0].captions == tuple(f"Caption {k} ." for k in range(5))
    assert splits.val[0].image.read_bytes() == file.getvalue()
    with pytest.raises(ZiaError, match="is there already"):
        convert(source, dest)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ({"file": None}, "record 1: 'file' must be a text, not null"),
        ({"file": "../a.jpg"}, "record 1: 'file' must be a file's name"),
        ({"split": 3}, "record 1: 'split' must be a text"),
        ({"captions": []}, "record 1: 'captions' must be a list of texts"),
        ({"captions": ["A", 3]}, "record 1: 'caption' must be a text"),
        ({"captions": ["A\nB"]}, "record 1: a caption must be one line"),
    ],
)
def test_a_malformed_record_is_no_unreadable_image(
    tmp_path: Path, change: dict[str, object], sentence: str
) -> None:
    good = {"file": "0.jpg", "split": "train", "captions": ["A ."]}
    (tmp_path / "captions.json").write_text(json.dumps([good, good | change]))
    with zipfile.ZipFile(tmp_path / "images_128.zip", "w") as archive:
        archive.writestr("0.jpg", b"any")
    with pytest.raises(ZiaError, match=rf"captions.json, {sentence}"):
        convert(tmp_path, tmp_path / "data")
    assert not (tmp_path / "data").exists()
