"""Stages of a plan, and the published runs that they take their choices from."""

import gzip
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from experiments.harness import archive, registry, stored
from experiments.harness.spec import RunSpec
from experiments.harness.stage import Stage, is_choice, take_choices
from experiments.training.selection import Selection, select_runs
from zia_core.errors import ZiaError

Limit = Callable[[int], AbstractContextManager[None]]


@dataclass(frozen=True)
class Settings(Selection):
    width: int = 1


def final(method: str, seed: int, **changes: int) -> RunSpec:
    settings = Settings(candidates=(0.1, 0.2), selection_seed=100, **changes)
    return RunSpec("toy", 1, "task", method, "model", "data", "mini", seed, settings)


FINALS = [final(m, seed, width=w) for m in ("a", "b") for w in (1, 2) for seed in (42, 44)]
CHOICES = [each for spec in FINALS[::2] for each in select_runs(spec)]
TRIAL = replace(CHOICES[0], seed=900)  # that no run requires
PLANNED = [*FINALS, *CHOICES, TRIAL]


@pytest.fixture(autouse=True)
def toy(monkeypatch: pytest.MonkeyPatch) -> None:
    class Toy:
        requires = staticmethod(select_runs)
        follow_ups = ("why",)
        later = staticmethod(lambda spec: spec.settings.width == 9)

    monkeypatch.setattr(registry, "get", lambda name: Toy)


def test_the_first_stage_has_one_seed_of_everything_and_what_it_requires() -> None:
    stage = Stage("first").of(PLANNED)
    finals = [spec for spec in stage if not is_choice(spec)]
    assert finals == FINALS[::2]
    assert {s.identity for s in stage if is_choice(s)} == {s.identity for s in CHOICES}


@pytest.mark.parametrize("left_out", [final("why", 42), final("a", 42, width=9)])
def test_the_first_stage_leaves_out_what_only_tests_causes_and_what_is_for_later(
    left_out: RunSpec,
) -> None:
    specs = [left_out, *PLANNED]
    assert [spec for spec in Stage("first").of(specs) if not is_choice(spec)] == FINALS[::2]
    assert left_out in Stage("all").of(specs)


def test_all_seeds_are_all_final_runs() -> None:
    stage = Stage("all").of(PLANNED)
    assert [spec for spec in stage if not is_choice(spec)] == FINALS
    assert TRIAL not in stage


@pytest.mark.parametrize("seeds", ["first", "all"])
def test_choosing_again_does_what_nothing_requires_too(seeds: str) -> None:
    stage = Stage(seeds, reselect=True).of(PLANNED)
    assert {s.identity for s in stage if is_choice(s)} == {s.identity for s in [*CHOICES, TRIAL]}


def test_a_stage_is_in_the_order_in_which_it_can_be_done() -> None:
    done: set[str] = set()
    for spec in Stage("all").of(PLANNED):
        assert {needed.identity for needed in select_runs(spec)} <= done
        done.add(spec.identity)


def published(root: Path, spec: RunSpec, text: str = "{}") -> Path:
    folder = root / spec.experiment / spec.folder_name
    folder.mkdir(parents=True)
    (folder / "config.json").write_text("{}")
    (folder / "result.json").write_text(text)
    return folder


def test_published_choices_are_copied_where_they_are_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "load_sealed", lambda path: None)
    there, runs = tmp_path / "published", tmp_path / "runs"
    for spec in (FINALS[0], *CHOICES[:2]):
        published(there, spec)
    own = published(runs, CHOICES[1], "own")
    assert take_choices(PLANNED, there, runs) == 1
    assert {path.name for path in (runs / "toy").iterdir()} == {
        CHOICES[0].folder_name, CHOICES[1].folder_name,
    }  # fmt: skip
    assert (own / "result.json").read_text() == "own"
    assert take_choices(PLANNED, there, runs) == 0


def test_a_choice_that_another_process_copies_meanwhile_is_left(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stored, "load_sealed", lambda path: None)
    published(tmp_path / "published", CHOICES[0])
    copy = shutil.copytree

    def slowly(source: Path, target: Path) -> Path:
        published(tmp_path / "runs", CHOICES[0], "the other's")
        return Path(copy(source, target))

    monkeypatch.setattr(shutil, "copytree", slowly)
    assert take_choices(PLANNED, tmp_path / "published", tmp_path / "runs") == 0
    [kept] = (tmp_path / "runs" / "toy").iterdir()
    assert (kept / "result.json").read_text() == "the other's"


def test_a_full_disk_is_one_sentence_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, file_size_limit: Limit
) -> None:
    """Of an archive, as published runs are."""
    contents = {"config.json": b"{}", "predictions.jsonl": b'{"id":1}\n' * 100_000}
    folder = tmp_path / "published"
    folder.mkdir()
    archive.write(folder / "toy-mini.zip", "toy", "mini", {CHOICES[0].folder_name: contents})
    monkeypatch.setattr(stored, "load_sealed", lambda path: None)
    monkeypatch.setattr(gzip, "compress", lambda data, mtime: data)
    # It gathers the errors of all files, without a number that says what they are.
    monkeypatch.setattr(shutil, "copytree", None)
    with file_size_limit(100_000), pytest.raises(ZiaError) as raised:
        take_choices(PLANNED, folder, tmp_path / "runs")
    assert "\n" not in str(raised.value)
    assert str(raised.value).endswith("unchanged: make room there and try again")
    assert not list((tmp_path / "runs" / "toy").iterdir())
    assert take_choices(PLANNED, folder, tmp_path / "runs") == 1


def test_a_damaged_published_choice_is_not_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def damaged(path: Path) -> None:
        raise ZiaError(f"{path} is damaged")

    monkeypatch.setattr(stored, "load_sealed", damaged)
    published(tmp_path / "published", CHOICES[0])
    with pytest.raises(ZiaError, match="is damaged"):
        take_choices(PLANNED, tmp_path / "published", tmp_path / "runs")
    assert not (tmp_path / "runs").exists()
