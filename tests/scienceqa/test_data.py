"""The official layout: what is read, and every way in which it can be malformed."""

import gzip
import io
import json
import zipfile
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageDraw

from experiments.scienceqa import subsets
from experiments.scienceqa.data import fingerprint, load_problems
from experiments.scienceqa.own_split import own_split
from experiments.scienceqa.same_pictures import same_pictures
from experiments.scienceqa.subsets import select
from tests.scienceqa.world import SIZES, write_scienceqa
from zia_core import ZiaError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_scienceqa(tmp_path / "scienceqa")
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    return tmp_path / "scienceqa"


def change(folder: Path, pid: str, **fields: Any) -> None:
    """Fields of a problem changed; None takes one away."""
    path = folder / "problems.json"
    problems = json.loads(path.read_text())
    problems[pid] |= fields
    problems[pid] = {k: v for k, v in problems[pid].items() if v != "(away)"}
    path.write_text(json.dumps(problems))


def test_problems_as_they_are(folder: Path) -> None:
    problems = load_problems()
    assert len(problems) == sum(SIZES.values())
    first = problems["1"]
    assert (first.split, first.hint, first.answer) == ("train", "It is about picture 1.", 1)
    assert first.image == folder / "images" / "train" / "1" / "image.png"
    assert first.image.is_file()
    assert problems["3"].image is None
    assert first.scored().has_image


def test_gzip_is_the_same(folder: Path) -> None:
    before = fingerprint(list(load_problems().values()))
    for name in ("problems.json", "pid_splits.json"):
        content = (folder / name).read_bytes()
        (folder / f"{name}.gz").write_bytes(gzip.compress(content))
        (folder / name).unlink()
    assert fingerprint(list(load_problems().values())) == before


def test_a_fingerprint_tells_texts_hints_and_order(folder: Path) -> None:
    before = fingerprint(list(load_problems().values()))
    assert fingerprint(list(load_problems().values())[::-1]) != before
    for fields in ({"hint": "x"}, {"choices": ["a", "b", "c"]}, {"question": "y"}):
        change(folder, "1", **fields)
        after = fingerprint(list(load_problems().values()))
        assert after != before
        before = after


@pytest.mark.parametrize(
    ("fields", "sentence"),
    [
        ({"choices": []}, "problem '2': 'choices' must be a list of 1 to 5 options"),
        ({"choices": ["a", " "], "answer": 0}, "problem '2': option 1 is empty"),
        ({"choices": ["a", 7], "answer": 0}, "problem '2', option 1: 'choice' must be a text"),
        ({"choices": "ab"}, "problem '2': 'choices' must be a list"),
        ({"answer": 4}, "problem '2': 'answer' must be an index into its 3 options"),
        ({"answer": True}, "'answer' must be an index"),
        ({"question": "(away)"}, "problem '2' has no field 'question'"),
        ({"hint": 3}, "'hint' must be a text, not a number"),
        ({"image": 3}, "'image' must be a file name or null"),
        ({"image": "../1/image.png"}, "must be a file name, not the path"),
        ({"split": "val"}, "problem '2' says split 'val', and .*pid_splits.json 'train'"),
    ],
)
def test_malformed_problems_are_named(folder: Path, fields: dict[str, Any], sentence: str) -> None:
    change(folder, "2", **fields)
    with pytest.raises(ZiaError, match=sentence):
        load_problems()


def test_a_pid_without_split_is_named(folder: Path) -> None:
    path = folder / "pid_splits.json"
    splits = json.loads(path.read_text())
    splits["train"].remove("5")
    path.write_text(json.dumps(splits))
    with pytest.raises(ZiaError, match=r"problem '5' is in no split: add it to .*pid_splits.json"):
        load_problems()


def test_missing_and_wrong_files(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (folder / "problems.json").write_text("[]")
    with pytest.raises(ZiaError, match=r"problems.json must be an object \{pid: problem\}"):
        load_problems()
    (folder / "problems.json").unlink()
    with pytest.raises(ZiaError, match=r"no ScienceQA: .*problems.json\[.gz\] does not exist"):
        load_problems()
    monkeypatch.delenv("ZIA_DATA")
    with pytest.raises(ZiaError, match=r"\$ZIA_DATA is not set; put problems.json"):
        load_problems()


def test_full_means_all_of_it(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ZiaError, match=r"not complete .*12726.* data=.*reduced-1773"):
        select("full")
    monkeypatch.setattr(subsets, "SIZES", SIZES)
    splits = select("full")
    assert {s: len(part) for s, part in vars(splits).items()} == SIZES
    with pytest.raises(ZiaError, match="no data named 'reduced-9'; there are: full, reduced-1773"):
        select("reduced-9")
    with pytest.raises(ZiaError, match=r"record \d+, which the subset reduced-1773 lists, has"):
        select("reduced-1773")


def noise(seed: int) -> Image.Image:
    pixels = torch.randint(60, 200, (5, 6, 3), generator=torch.Generator().manual_seed(seed))
    return encoded(Image.fromarray(pixels.to(torch.uint8).numpy()).resize((96, 80)))


def encoded(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=90)
    with Image.open(file) as read:
        return read.convert("RGB")


def test_pictures_are_told_by_their_pixels() -> None:
    """Copies of a copy are the same picture; one other small label is another."""
    first = noise(0)
    second = first.point(lambda value: value + 30 if value % 61 == 0 else value)
    third = first.point(lambda value: value + 60 if value % 61 == 0 else value)
    marked = first.copy()
    ImageDraw.Draw(marked).rectangle((4, 4, 5, 5), "white")
    darker = first.point(lambda value: value - 2)
    images = {
        "marked": marked, "third": third, "first": first, "second": second, "darker": darker,
        "encoded": encoded(first), "larger": first.resize((100, 80)), "other": noise(1),
    }  # fmt: skip
    found = same_pictures(images)
    assert found == {name: name for name in images} | {
        "first": "third", "second": "third", "encoded": "third"
    }  # fmt: skip


def test_own_split_keeps_copies_of_a_picture_on_one_side() -> None:
    images = {f"{i}.jpg": noise(i) for i in range(60)}
    images |= {f"copy{i}.jpg": encoded(images[f"{i}.jpg"]) for i in range(60)}
    questions = {str(i + 1): (name, f"Question {i}?") for i, name in enumerate(images)}
    parts = own_split(questions, images, ["1", "2"])
    sides = {pid: name for name, part in parts.items() for pid in part}
    assert (sides["61"], sides["62"]) == ("left_out", "left_out")
    assert any(images[f"{i}.jpg"].tobytes() != images[f"copy{i}.jpg"].tobytes() for i in range(60))
    assert all(sides[str(i)] == sides[str(i + 60)] for i in range(3, 61))
    assert {"train", "val"} <= set(sides.values())


def test_own_split_keeps_groups_together() -> None:
    questions = {
        str(i): (f"image{i // 2}", f"text{i % 7}" if i < 20 else f"own{i // 3}")
        for i in range(1, 400)
    }
    images = {image: noise(seed) for seed, (image, _) in enumerate(questions.values())}
    parts = own_split(questions, images, ["3", "100", "200"])
    assert parts["test"] == ["3", "100", "200"]
    everything = [pid for part in parts.values() for pid in part]
    assert sorted(everything) == sorted(questions)
    used = {name: parts[name] for name in ("train", "val", "test")}
    for kind in range(2):
        keys = [{questions[pid][kind] for pid in part} for part in used.values()]
        assert not keys[0] & keys[1]
        assert not keys[0] & keys[2]
        assert not keys[1] & keys[2]
    assert set(parts["left_out"]) >= {"2", "5"}  # the image of 3, and a text linked with it
    assert 0.1 < len(parts["val"]) / (len(parts["val"]) + len(parts["train"])) < 0.3


def test_the_committed_own_split_is_what_it_says(shared_dir: Path) -> None:
    rows = json.loads(
        gzip.decompress((shared_dir / "data/scienceqa/test_image_questions.json.gz").read_bytes())
    )
    problems = json.loads(
        gzip.decompress((shared_dir / "data/scienceqa/problems_1-1773.json.gz").read_bytes())
    )
    committed = subsets.subsets.read_subset(subsets.FOLDER, subsets.OWN_SPLIT)
    test = [r["pid"] for r in rows if r["pid"] in problems]
    with zipfile.ZipFile(shared_dir / "data/scienceqa/images_test_224.zip") as archive:
        images = {
            name: Image.open(io.BytesIO(archive.read(name))).convert("RGB")
            for name in sorted({r["image_file"] for r in rows})
        }
    parts = own_split({r["pid"]: (r["image_file"], r["question"]) for r in rows}, images, test)
    for name in ("train", "val", "test", "left_out"):
        assert [pid for pid, _ in committed[name]] == parts[name]
    counts = [len(committed[name]) for name in ("train", "val", "test", "left_out")]
    assert counts == [649, 178, 167, 1023]
    # Pictures of tested questions (1387, 305, 62, 584) in other files.
    assert {"6129", "2993", "17988", "16773"} <= {pid for pid, _ in committed["left_out"]}
    small = subsets.subsets.read_subset(subsets.FOLDER, "reduced-1773")
    assert [len(small[n]) for n in ("train", "val", "test")] == [1041, 371, 361]
