"""Data are linked where they are real, and generated, at official size, where they are missing."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.harness import plan, registry
from experiments.images.task_folder import load_task
from experiments.rehearsal.places import Places
from experiments.scienceqa.data import SIZES, load_problems
from experiments.scienceqa.rehearsal import REHEARSAL
from experiments.scienceqa.subsets import select
from experiments.vtab_vit import tasks
from experiments.vtab_vit.rehearsal import write


def test_generated_scienceqa_has_all_problems_and_its_images(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    REHEARSAL.write["scienceqa"](tmp_path / "scienceqa")
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    problems = load_problems().values()
    assert len(problems) == sum(SIZES.values()) == 21_208
    images = [problem.image for problem in problems if problem.image]
    assert len(images) > 5000
    assert all(image.exists() for image in images)
    assert len({image.stat().st_ino for image in images}) < 100
    # Complete, so a sample of it may be used; with one problem less there is none.
    assert [len(part) for part in vars(select("sample")).values()] == [128, 16, 16]
    monkeypatch.setitem(SIZES, "val", 4242)
    with pytest.raises(Exception, match="not complete"):
        select("sample")


def test_a_generated_task_has_the_official_lengths(tmp_path: Path) -> None:
    task = tasks.get("sun397")
    write(task, tmp_path / "sun397")
    data = load_task(task, tmp_path / "sun397")
    assert (len(data.train), len(data.val), len(data.test)) == (800, 200, 21_750)
    assert {example.label for example in data.test} == set(range(397))


@pytest.fixture
def vicuna_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of Alpaca's data sets, only the questions are generated."""
    owner = registry.get("alpaca_llama")
    assert owner.rehearsal is not None
    write = {"vicuna80": owner.rehearsal.write["vicuna80"]}
    fewer = replace(owner, rehearsal=replace(owner.rehearsal, write=write))
    monkeypatch.setattr(registry, "get", lambda name: fewer)


@pytest.mark.usefixtures("vicuna_alone")
def test_real_data_are_linked_and_what_is_missing_is_generated_and_listed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    places, specs = Places(tmp_path / "rehearsal"), plan.planned("alpaca_llama", "paper", "cpu")
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "real"))
    generated = places.data / "vicuna80"
    listed = list(places.prepare(specs, real_weights=True))
    assert listed == [f"generated: Vicuna's 80 questions, in {generated}"]
    made = (generated / "question.jsonl").read_bytes()
    real = tmp_path / "real" / "vicuna80"
    real.mkdir(parents=True)
    (real / "question.jsonl").write_text('{"question_id": 1, "text": "Real?"}\n')
    assert list(places.prepare(specs, real_weights=True)) == []
    assert generated.is_symlink()
    (real / "question.jsonl").unlink()
    assert list(places.prepare(specs, real_weights=True)) == listed
    assert not generated.is_symlink()
    assert (generated / "question.jsonl").read_bytes() == made
    assert real.exists()
