"""What is kept in memory between runs is what the files hold."""

import os
from pathlib import Path

import pytest
import torch

from experiments.images import protocols
from experiments.images.task_folder import contents, load_task
from experiments.vtab_vit import loaded_task as module
from experiments.vtab_vit.loaded_task import loaded, pixels
from experiments.vtab_vit.subsets import test_images as chosen_images
from tests.vtab_vit.folders import TINY, grey, write_tiny
from zia_core.errors import ZiaError

PROTOCOL = protocols.get("fact", 4)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    return write_tiny(tmp_path / "vtab" / "tiny")


def test_nothing_is_read_twice(folder: Path) -> None:
    task = loaded(TINY)
    assert task.data == load_task(TINY)
    assert task.contents == contents(task.data)
    images = task.images(task.data.train, PROTOCOL)
    assert torch.equal(images, pixels(task.data.train, PROTOCOL))
    assert loaded(TINY) is task
    assert loaded(TINY).images(task.data.train, PROTOCOL) is images
    other = task.images(task.data.train, protocols.get("raw", 4))
    assert not torch.equal(other, images)
    assert len(task.images(task.data.val, PROTOCOL)) == 2


@pytest.mark.parametrize("what", ["an image", "a list", "an image of the same size and time"])
def test_a_changed_file_is_seen(folder: Path, what: str) -> None:
    before = loaded(TINY)
    images = before.images(before.data.test, PROTOCOL)
    if what == "a list":
        listed = folder / "test.txt"
        listed.write_text(listed.read_text().replace("6.png 0", "6.png 1"))
    else:
        image = folder / "images" / "7.png"
        stat = image.stat()
        image.write_bytes(grey(71, 5))
        if "time" in what:
            os.utime(image, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    after = loaded(TINY)
    assert after.contents.fingerprint != before.contents.fingerprint
    assert torch.equal(after.images(after.data.test, PROTOCOL), images) == (what == "a list")
    (folder / "images" / "7.png").unlink()
    with pytest.raises(ZiaError, match=r"test\.txt, line 2 names the image .*7\.png, which is mis"):
        loaded(TINY)


def test_a_large_set_is_decoded_in_batches(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    task = loaded(TINY)
    kept = list(task.batches(task.data.train, PROTOCOL, 3))
    monkeypatch.setattr(module, "KEPT_BYTES", 10)
    task._decoded.clear()
    streamed = list(task.batches(task.data.train, PROTOCOL, 3))
    assert [len(batch) for batch in kept] == [len(batch) for batch in streamed] == [3, 1]
    assert torch.equal(torch.cat(kept), torch.cat(streamed))
    assert not task._decoded


def test_another_data_folder_is_another_task(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loaded(TINY)
    write_tiny(tmp_path / "other" / "vtab" / "tiny")
    monkeypatch.setenv("ZIA_DATA", str(tmp_path / "other"))
    assert loaded(TINY) is not first
    assert loaded(TINY).data.folder == tmp_path / "other" / "vtab" / "tiny"


def test_the_reduced_test_set(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    test = load_task(TINY).test
    assert chosen_images(test, "full") == chosen_images(test, "reduced-2000") == test
    monkeypatch.setattr("experiments.vtab_vit.subsets._REDUCED_SIZE", 2)
    chosen = chosen_images(test, "reduced-2000")
    assert len(chosen) == 2
    assert chosen == tuple(each for each in test if each in chosen)
    assert set(chosen_images(test[::-1], "reduced-2000")) == set(chosen)
    with pytest.raises(ZiaError, match="no data named 'half'; there are: full, reduced-2000"):
        chosen_images(test, "half")
