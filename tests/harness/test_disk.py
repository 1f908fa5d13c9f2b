"""Unwritable places are named before work begins, or else with the file."""

import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any

import pytest
import torch

from experiments.coco_caption import convert as captions
from experiments.harness import publish, stored
from experiments.harness.folder import RunFolder
from experiments.io.files import check_output, replacing
from experiments.mini_world.world import write_world
from experiments.report.claims.write import write_claims
from experiments.report.figures.write import write_figures
from experiments.report.html.report import write_report
from experiments.report.tables.write import write_tables
from experiments.scienceqa import convert as scienceqa
from tests.cli.test_main import RUNS, Zia, zia
from tests.harness import toy
from zia_core.errors import ZiaError

__all__ = ["zia"]  # a fixture

Limit = Callable[[int], AbstractContextManager[None]]
SIZE = 300_000  # bytes: more than a block that a writer keeps back


@pytest.fixture
def full(tmp_path: Path) -> Path:
    """A path at which no folder can be made, also by root."""
    path = tmp_path / "taken"
    path.write_text("a file")
    return path


@pytest.mark.parametrize("command", ["tables", "figures", "claims", "report"])
def test_an_output_is_looked_at_before_any_run_is_read(zia: Zia, full: Path, command: str) -> None:
    broken = RUNS / "toy" / "run" / stored.CONFIG
    broken.parent.mkdir(parents=True)
    broken.write_text("{")  # which a reader would name
    for out in (full, full / "below"):
        code, _, err = zia(f"{command} --out {out}")
        assert code == 1
        assert err.startswith(f"zia: cannot write into the folder {out} (")
        assert err.endswith("): choose another folder\n")


@pytest.mark.parametrize("executor", ["inprocess", "local"])
def test_an_output_is_looked_at_before_any_run_is_done(zia: Zia, full: Path, executor: str) -> None:
    assert zia(f"reproduce toy --executor {executor} --out {full}").code == 1
    assert [path.name for path in Path().iterdir()] == [full.name]
    taken = full.with_name("results-of-mine") / "tables"
    taken.parent.mkdir()
    taken.write_text("a file")
    code, _, err = zia(f"reproduce toy --executor {executor} --out {taken.parent}")
    assert (code, f"cannot write into the folder {taken}" in err) == (1, True)
    assert not RUNS.exists()


def test_a_benchmarks_output_is_looked_at_before_it_measures(zia: Zia, full: Path) -> None:
    code, _, err = zia(f"bench attention_core --out {full / 'result.json'}")
    assert (code, "cannot write" in err) == (1, True)


@pytest.mark.parametrize(
    "work",
    [
        lambda out: write_tables([out], out),
        lambda out: write_figures([out], out),
        lambda out: write_claims([out], out),
        lambda out: write_report([out], out),
        lambda out: publish.publish(out, out),
        lambda out: write_world(out / "world"),
        lambda out: captions.convert(out, out),
        lambda out: scienceqa.convert(out, out),
    ],
)
def test_everything_that_writes_a_folder_looks_first(
    full: Path, work: Callable[[Path], object]
) -> None:
    with pytest.raises(ZiaError, match=r"cannot write into the folder .*taken"):
        work(full)


def test_room_for_empty_files_only_is_a_full_disk(tmp_path: Path, file_size_limit: Limit) -> None:
    with file_size_limit(0), pytest.raises(ZiaError, match=r"File too large.*make room there"):
        check_output(tmp_path)


def tensors() -> dict[str, Any]:
    return {"weight": torch.zeros(SIZE // 4)}


def save_whole(path: Path) -> None:
    path.write_bytes(bytes(SIZE))


def save_text(path: Path) -> None:
    path.write_text("x" * SIZE, encoding="utf-8")


@pytest.mark.parametrize("save", [save_whole, save_text])
@pytest.mark.parametrize("name", [stored.ADAPTER, stored.ANSWERS, "card.json"])
def test_a_full_disk_names_the_file_of_the_run(
    tmp_path: Path, file_size_limit: Limit, save: Callable[[Path], None], name: str
) -> None:
    folder = RunFolder.claim(tmp_path, toy.spec(), toy.EXPERIMENT.result_fields)
    assert folder is not None
    sentence = f"cannot write {folder.path / name}: File too large.*make room there"
    with folder:
        (folder.path / name).write_text("what was there before")
        with file_size_limit(SIZE // 2), pytest.raises(ZiaError, match=sentence):  # noqa: SIM117
            with folder.writing(name) as path:
                save(path)
        assert (folder.path / name).read_text() == "what was there before"
        with file_size_limit(SIZE // 2), pytest.raises(ZiaError) as error:
            folder.save_checkpoint(1, tensors(), {})
        checkpoint = folder.path / stored.CHECKPOINT / "step-00000001.safetensors"
        assert f"{checkpoint}: " in str(error.value)
        assert "make room there" in str(error.value)
        assert not checkpoint.exists()


def test_an_error_of_another_file_keeps_its_name(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="absent"), replacing(tmp_path / "made") as path:  # noqa: PT012
        path.write_bytes(b"1")
        (tmp_path / "absent").read_bytes()
    assert list(tmp_path.iterdir()) == []


def test_a_run_whose_disk_is_full_says_which_file(
    zia: Zia, monkeypatch: pytest.MonkeyPatch, file_size_limit: Limit
) -> None:
    def run(spec: Any, folder: RunFolder) -> None:
        with file_size_limit(SIZE // 2), folder.writing(stored.ADAPTER) as path:
            save_whole(path)

    experiment = toy.EXPERIMENT
    monkeypatch.setattr(type(experiment), "__setattr__", object.__setattr__)
    monkeypatch.setattr(experiment, "run", run)
    code, _, err = zia("run toy")
    assert code == 1
    assert "Traceback" not in err
    assert "adapter.safetensors: File too large" in err
    (found,) = stored.states(RUNS)
    assert found.status["reason"].startswith("cannot write ")
    assert list((found.path / "owner").glob("*/.*")) == []  # nothing half-written is left
    shutil.rmtree(RUNS)
