import os
from pathlib import Path

import pytest

from experiments.data.files import DATA_VARIABLE, official_file
from experiments.io.files import write_json_atomic
from experiments.mini_world import provided, world
from experiments.mini_world.provided import data_of, rescore_with_data, world_folder
from zia_core.errors import ZiaError


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A world of one part, which is fast to make; returns the root of the cache."""
    monkeypatch.setattr(world, "_PARTS", {"squad": world._PARTS["squad"]})
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path)
    return tmp_path / "zia"


def test_the_world_is_made_once_and_its_version_is_its_name(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = world_folder()
    assert folder == small / f"world-v{world.VERSION}"
    (folder / "mark").touch()
    assert (world_folder() / "mark").exists()
    monkeypatch.setattr(provided, "VERSION", world.VERSION + 1)
    assert not (world_folder() / "mark").exists()


def test_a_process_that_is_overtaken_takes_the_other_s_world(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def overtaken(folder: Path) -> Path:
        folder.mkdir(parents=True)
        (folder / "theirs").touch()
        raise ZiaError(f"{folder} is there already")

    monkeypatch.setattr(provided, "write_world", overtaken)
    assert (world_folder() / "theirs").exists()


def test_a_world_that_cannot_be_written_is_an_error(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    small.write_text("a file where the cache should be")
    with pytest.raises(ZiaError, match="cannot write"):
        world_folder()


def test_mini_has_the_world_for_its_data_and_no_other_profile(
    small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(DATA_VARIABLE, "/elsewhere")
    with data_of("small"):
        assert os.environ[DATA_VARIABLE] == "/elsewhere"
    with data_of("mini"):
        found = official_file("squad/dev-v1.1.json")
    assert found is not None
    assert found.is_relative_to(small)
    assert os.environ[DATA_VARIABLE] == "/elsewhere"
    monkeypatch.delenv(DATA_VARIABLE)
    with pytest.raises(ZeroDivisionError), data_of("mini"):
        _ = 1 / 0
    assert DATA_VARIABLE not in os.environ


def test_predictions_are_scored_with_the_data_of_their_run(small: Path, tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "config.json", {"profile": "mini"})
    where = rescore_with_data(lambda path: os.environ[DATA_VARIABLE])
    assert where(tmp_path) == str(small / f"world-v{world.VERSION}")
