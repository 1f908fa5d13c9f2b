import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from datasets import Dataset

from experiments.data.arrow_cache import cached
from zia_core.errors import ZiaError


@pytest.fixture
def build() -> Callable[[], Dataset]:
    def made() -> Dataset:
        made.calls += 1  # type: ignore[attr-defined]
        return Dataset.from_dict({"number": list(range(1000))})

    made.calls = 0  # type: ignore[attr-defined]
    return made


def test_a_table_is_built_once(tmp_path: Path, build: Callable[[], Dataset]) -> None:
    for _ in range(3):
        assert list(cached("key", build, tmp_path)["number"]) == list(range(1000))
    assert build.calls == 1  # type: ignore[attr-defined]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize("damage", ["flip", "cut", "remove", "manifest", "extra"])
def test_a_damaged_table_is_built_again(
    tmp_path: Path, build: Callable[[], Dataset], damage: str
) -> None:
    cached("key", build, tmp_path)
    [arrow] = (tmp_path / "key").glob("*.arrow")
    content = bytearray(arrow.read_bytes())
    content[len(content) // 2] ^= 1
    if damage == "flip":
        arrow.write_bytes(content)
    elif damage == "cut":
        arrow.write_bytes(content[: len(content) // 2])
    elif damage == "remove":
        arrow.unlink()
    elif damage == "manifest":
        (tmp_path / "key" / "sha256.json").write_text("{")
    else:
        (tmp_path / "key" / "other").touch()
    assert list(cached("key", build, tmp_path)["number"]) == list(range(1000))
    assert build.calls == 2  # type: ignore[attr-defined]
    cached("key", build, tmp_path)
    assert build.calls == 2  # type: ignore[attr-defined]


def test_a_table_that_another_process_built_meanwhile_is_taken(tmp_path: Path) -> None:
    def slow() -> Dataset:
        cached("key", lambda: Dataset.from_dict({"number": [1]}), tmp_path)
        return Dataset.from_dict({"number": [2]})

    assert list(cached("key", slow, tmp_path)["number"]) == [1]
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


def test_a_full_disk_is_one_sentence_and_leaves_nothing(tmp_path: Path) -> None:
    mount = ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(tmp_path)]
    if os.geteuid() != 0 or subprocess.run(mount, capture_output=True).returncode != 0:
        pytest.skip("a small tmpfs needs the right to mount")
    try:
        table = Dataset.from_dict({"number": list(range(100_000))})
        with pytest.raises(
            ZiaError, match=r"cannot write .*key.*No space left on device.*make room"
        ):
            cached("key", lambda: table, tmp_path)
        assert list(tmp_path.iterdir()) == []
    finally:
        subprocess.run(["umount", "-l", tmp_path], check=True)
