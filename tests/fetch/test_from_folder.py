"""Data sets from archives and files that people have."""

import io
import json
import tarfile
import zipfile
from pathlib import Path

import pytest

from experiments.coco_caption.needs import karpathy_lists
from experiments.fetch.command import Plan
from experiments.fetch.from_folder import held_files
from experiments.fetch.lock import Lock
from experiments.harness.needs import DataSet, Needs
from zia_core.errors import ZiaError

CIFAR = DataSet("VTAB-1k cifar", ("vtab/cifar/",), "an archive", int)
ANNOTATED = DataSet("annotated", ("it/annotations/a.json", "it/val/"), "its page", int)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "data"))
    (tmp_path / "given").mkdir()
    return tmp_path / "given"


def zipped(path: Path, files: dict[str, str]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, text in files.items():
            archive.writestr(name, text)


def tarred(path: Path, files: dict[str, str]) -> None:
    with tarfile.open(path, "w:gz") as archive:
        for name, text in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))


def fetch(data: DataSet, folder: Path) -> list[str]:
    """Fetch from the folder; the problems."""
    with held_files(folder) as held:
        plan = Plan(Lock(folder / "lock"), held)
        plan.add(Needs((), (data,)))
        plan.fetch()
    return plan.problems


def contents(folder: Path) -> dict[str, str]:
    data = folder.parent / "data"
    files = [path for path in data.rglob("*") if path.is_file()]
    return {path.relative_to(data).as_posix(): path.read_text() for path in files}


@pytest.mark.parametrize("kind", ["zip", "tar.gz", "loose"])
def test_a_folder_is_found_in_an_archive_or_loose(folder: Path, kind: str) -> None:
    files = {"vtab-1k/cifar/test.txt": "1", "vtab-1k/cifar/images/x.jpg": "2", "vtab-1k/dtd/t": "3"}
    if kind == "loose":
        for name, text in files.items():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            (folder / name).write_text(text)
    else:
        {"zip": zipped, "tar.gz": tarred}[kind](folder / f"vtab-1k.{kind}", files)
    assert fetch(CIFAR, folder) == []
    assert contents(folder) == {"vtab/cifar/test.txt": "1", "vtab/cifar/images/x.jpg": "2"}


def test_files_come_from_several_archives_and_stay_packed(folder: Path) -> None:
    zipped(folder / "val.zip", {"val/1.jpg": "image"})
    (folder / "a.json.gz").write_text("packed")
    assert fetch(ANNOTATED, folder) == []
    assert contents(folder) == {"it/annotations/a.json.gz": "packed", "it/val/1.jpg": "image"}


def test_what_is_not_there_is_named_and_nothing_is_left(folder: Path) -> None:
    zipped(folder / "val.zip", {"val/1.jpg": "image"})
    (problem,) = fetch(ANNOTATED, folder)
    assert "no it/annotations/a.json: its page" in problem
    assert contents(folder) == {}


def test_a_set_that_its_loader_refuses_is_not_kept(folder: Path) -> None:
    def refuse() -> None:
        assert contents(folder)
        raise ZiaError("list is too short")

    (folder / "cifar").mkdir()
    (folder / "cifar/test.txt").write_text("x")
    assert fetch(DataSet("it", CIFAR.paths, "", refuse), folder) == ["list is too short"]
    assert contents(folder) == {}


def test_two_folders_of_that_name_are_not_guessed_between(folder: Path) -> None:
    zipped(folder / "both.zip", {"old/cifar/a": "1", "new/cifar/a": "2"})
    (problem,) = fetch(CIFAR, folder)
    assert "several could be vtab/cifar/" in problem
    assert "leave one in the folder" in problem


def test_an_archive_writes_nothing_outside(folder: Path) -> None:
    tarred(folder / "evil.tar.gz", {"cifar/../../../outside": "x"})
    (problem,) = fetch(CIFAR, folder)
    assert "not a file inside" in problem
    assert not list(folder.parent.rglob("outside"))


def test_a_damaged_archive_is_passed_over_and_named(
    folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (folder / "vtab-1k.zip").write_text("no zip")
    (folder / "holidays.tar.gz").write_text("no tar")
    assert fetch(CIFAR, folder)
    said = capsys.readouterr().err.splitlines()
    assert [line.partition(" is damaged (")[0] for line in said] == [
        f"passed over: {folder / name}" for name in ("holidays.tar.gz", "vtab-1k.zip")
    ]
    assert all(line.endswith("): download it again") for line in said)


def test_a_missing_folder_has_a_sentence(folder: Path) -> None:
    with pytest.raises(ZiaError, match="there is no such folder"):
        fetch(CIFAR, folder / "none")


def test_karpathy_s_file_becomes_the_lists(folder: Path) -> None:
    images = [
        {"filepath": "val2014", "filename": f"{i}.jpg", "cocoid": i, "split": split}
        for i, split in enumerate(("train", "restval", "val", "test"))
    ]
    zipped(folder / "caption_datasets.zip", {"dataset_coco.json": json.dumps({"images": images})})
    lists = tuple(f"coco/karpathy_{split}_images.txt" for split in ("train", "val", "test"))
    made_from = ("dataset_coco.json", karpathy_lists)
    assert fetch(DataSet("COCO", lists, "", int, made_from=made_from), folder) == []
    assert contents(folder) == {
        lists[0]: "val2014/0.jpg 0\nval2014/1.jpg 1\n",
        lists[1]: "val2014/2.jpg 2\n",
        lists[2]: "val2014/3.jpg 3\n",
    }


def test_without_the_folder_a_sentence_says_where_to_get_it(folder: Path) -> None:
    plan = Plan(Lock(folder / "lock"))
    plan.add(Needs((), (CIFAR,)))
    (problem,) = plan.problems
    assert "lacks vtab/cifar/. Get an archive; then add --from FOLDER" in problem
