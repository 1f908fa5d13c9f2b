import errno
import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path

import pytest
import torch

from zia_core.checkpoint import read_checkpoint, write_checkpoint
from zia_core.errors import ZiaError

Limit = Callable[[int], AbstractContextManager[None]]
TENSORS = {
    "transposed": torch.arange(12.0).reshape(3, 4).t(),
    "half": torch.tensor([1.5, -2.25], dtype=torch.bfloat16),
    "bytes": torch.arange(5, dtype=torch.uint8),
    "counter": torch.tensor(7),
    "empty": torch.zeros(0),
    "parameter": torch.nn.Parameter(torch.tensor([float("nan"), float("inf"), -0.0])),
}
STATE = {"step": 3, "sums": [0.1, None], "note": 'ümlaut and "sha256":"'}


def test_what_is_written_is_read(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, TENSORS, STATE)
    tensors, state = read_checkpoint(path)
    assert state == STATE
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        # Bitwise: NaN is not equal to itself.
        assert torch.equal(
            tensors[name].reshape(-1).view(torch.uint8),
            tensor.detach().contiguous().reshape(-1).view(torch.uint8),
        )


def test_a_checkpoint_is_replaced_and_not_written_over(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"a": torch.zeros(4)}, {"step": 1})
    before = path.read_bytes()
    with path.open("rb") as reader:
        write_checkpoint(path, {"a": torch.ones(4)}, {"step": 2})
        assert reader.read() == before
    tensors, state = read_checkpoint(path)
    assert (tensors["a"].tolist(), state) == ([1.0] * 4, {"step": 2})
    assert list(tmp_path.iterdir()) == [path]


def test_any_flipped_byte_and_any_truncation_is_noticed(tmp_path: Path) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, {"a": torch.arange(3.0)}, {"step": 1})
    whole = path.read_bytes()
    flipped = [
        whole[:i] + bytes([whole[i] ^ bit]) + whole[i + 1 :]
        for i in range(len(whole))
        for bit in (1, 128)
    ]
    for damaged in [*flipped, *(whole[:i] for i in range(len(whole))), whole + b"\0"]:
        path.write_bytes(damaged)
        with pytest.raises(ZiaError, match=r"the checkpoint .*c\.safetensors is damaged: "):
            read_checkpoint(path)


def test_a_missing_checkpoint_is_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"there is no checkpoint .*none\.safetensors"):
        read_checkpoint(tmp_path / "none.safetensors")


def test_the_umask_decides_who_may_read(tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        write_checkpoint(tmp_path / "c.safetensors", TENSORS, STATE)
    finally:
        os.umask(before)
    assert (tmp_path / "c.safetensors").stat().st_mode & 0o777 == 0o640


def assert_the_first_is_kept(path: Path) -> None:
    assert list(path.parent.iterdir()) == [path]
    assert read_checkpoint(path)[1] == {"step": 1}


def test_a_write_that_fails_halfway_keeps_the_previous_checkpoint(
    tmp_path: Path, file_size_limit: Limit
) -> None:
    path = tmp_path / "c.safetensors"
    write_checkpoint(path, TENSORS, {"step": 1})
    with (
        file_size_limit(100_000),
        pytest.raises(ZiaError, match=r"cannot write .*c\.safetensors: "),
    ):
        write_checkpoint(path, {"a": torch.zeros(100_000)}, {"step": 2})
    assert_the_first_is_kept(path)


def test_a_disk_that_fails_at_the_last_moment_keeps_the_previous_checkpoint(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(descriptor: int) -> None:
        raise OSError(errno.EIO, "the disk says no")

    path = tmp_path / "c.safetensors"
    write_checkpoint(path, TENSORS, {"step": 1})
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", fail)
        with pytest.raises(ZiaError, match="the disk says no"):
            write_checkpoint(path, TENSORS, {"step": 2})
    assert_the_first_is_kept(path)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(disk)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("mounting a small disk needs root")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_keeps_the_previous_checkpoint(small_disk: Path) -> None:
    path = small_disk / "c.safetensors"
    write_checkpoint(path, TENSORS, {"step": 1})
    with pytest.raises(ZiaError, match=r"cannot write .*No space left"):
        write_checkpoint(path, {"a": torch.zeros(30_000)}, {"step": 2})
    assert_the_first_is_kept(path)
