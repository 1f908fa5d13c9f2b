"""Archives of published runs: equal bytes, read in place, and no damage that goes unnoticed."""

import bz2
import hashlib
import json
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.harness import archive
from experiments.harness.archive import Archive
from zia_core.errors import ZiaError

DIGEST = "7614f6d5ede734cad27ee61a34db10d47cd49a158ea6da69d23332df0a7f12fa"
RUNS = {
    "b-s0": {"config.json": b'{"seed":0}', "metrics.jsonl": b'{"step":1}\n' * 50, "empty": b""},
    "a-s1": {"config.json": b'{"seed":1}', "metrics.jsonl": b'{"step":1}\n' * 50},
    "a-s0": {"config.json": b'{"seed":2}', "metrics.jsonl": b'{"step":2}\n' * 50},
}


def written(folder: Path) -> Path:
    path = folder / archive.file_name("toy", "mini")
    archive.write(path, "toy", "mini", RUNS)
    return path


def everything(path: Path) -> dict[str, dict[str, bytes]]:
    return {run.name: run.contents() for run in Archive(path).runs}


def test_what_is_written_is_read_in_place(tmp_path: Path) -> None:
    whole = Archive(written(tmp_path))
    assert (whole.experiment, whole.profile) == ("toy", "mini")
    assert [run.name for run in whole.runs] == ["a-s0", "a-s1", "b-s0"]
    assert everything(whole.path) == RUNS
    run = whole.runs[0]
    assert (run / "config.json").read_bytes() == b'{"seed":2}'
    assert [(run / name).exists() for name in ("config.json", "empty")] == [True, False]
    assert str(run / "config.json") == f"{whole.path}/a-s0/config.json"
    with pytest.raises(FileNotFoundError, match="no such file in the archive"):
        (run / "empty").read_bytes()


def test_two_lines_of_python_read_a_run(tmp_path: Path) -> None:
    """As results/README.md has them."""
    file = zipfile.ZipFile(written(tmp_path))
    unpacked = {name[:-4]: bz2.decompress(file.read(name)) for name in file.namelist()}
    start, size = json.loads(unpacked["index.json"])["runs"]["a-s0"]["metrics.jsonl"]
    assert unpacked["metrics.jsonl"][start : start + size] == RUNS["a-s0"]["metrics.jsonl"]


def test_equal_runs_give_equal_bytes_with_every_python(tmp_path: Path) -> None:
    """The digest is of one machine; another one, or another version, has to get the same."""
    first = written(tmp_path).read_bytes()
    other = tmp_path / "other.zip"
    turned = {run: dict(reversed(files.items())) for run, files in reversed(RUNS.items())}
    archive.write(other, "toy", "mini", turned)
    assert other.read_bytes() == first
    assert hashlib.sha256(first).hexdigest() == DIGEST


def test_equal_contents_are_stored_once(tmp_path: Path) -> None:
    with zipfile.ZipFile(written(tmp_path)) as file:
        assert len(bz2.decompress(file.read("metrics.jsonl.bz2"))) == 2 * 11 * 50
        names = ["index.json", "config.json", "empty", "metrics.jsonl"]
        assert file.namelist() == [f"{name}.bz2" for name in names]
        assert file.testzip() is None


@pytest.mark.parametrize("member", ["index.json", "config.json", "metrics.jsonl"])
def test_a_damaged_member_is_named(tmp_path: Path, member: str) -> None:
    path = written(tmp_path)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as file:
        packed = f"{member}.bz2"
        start = file.getinfo(packed).header_offset + 30 + len(packed)
    content[start + 20] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZiaError, match=rf"^{path}: the member {member} cannot be read \(.*\): res"):
        everything(path)


def test_no_damage_goes_unnoticed(tmp_path: Path) -> None:
    """Every byte in turn is another one, or the last: equal contents, or a sentence about it."""
    path = written(tmp_path)
    whole = path.read_bytes()
    damaged = [whole[:place] for place in range(0, len(whole), 7)]
    damaged += [
        whole[:place] + bytes([whole[place] ^ bit]) + whole[place + 1 :]
        for place in range(len(whole))
        for bit in (1, 128)
    ]
    sentences = []
    for content in damaged:
        path.write_bytes(content)
        try:
            found = everything(path)
        except ZiaError as error:
            sentences.append(str(error))
        else:
            assert found == RUNS
    assert len(sentences) > 0.7 * len(damaged)  # the rest are times, modes and the like
    assert all(sentence.startswith(str(path)) for sentence in sentences)
    assert not any("\n" in sentence for sentence in sentences)


def test_what_is_not_an_archive_is_named(tmp_path: Path) -> None:
    for path in (tmp_path, tmp_path / "absent.zip"):
        with pytest.raises(ZiaError, match=rf"^{path}: .* cannot be read \("):
            Archive(path)


def indexed(folder: Path, change: Callable[[dict], object]) -> Path:
    """The archive with another index."""
    path, other = written(folder), folder / "other.zip"
    with zipfile.ZipFile(path) as source, zipfile.ZipFile(other, "w") as target:
        for name in source.namelist():
            content = source.read(name)
            if name == "index.json.bz2":
                index = json.loads(bz2.decompress(content))
                change(index)
                content = bz2.compress(json.dumps(index).encode())
            target.writestr(name, content)
    return other


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "C:x", "a\\b", "", "..", "a\nb"])
def test_names_are_plain(tmp_path: Path, name: str) -> None:
    changes: tuple[Callable[[dict], object], ...] = (
        lambda index: index["runs"].update({name: {}}),
        lambda index: index["runs"]["a-s0"].update({name: [0, 1]}),
        lambda index: index.update(experiment=name),
        lambda index: index.update(profile=name),
    )
    for change in changes:
        with pytest.raises(ZiaError, match=r"other\.zip: index\.json: .* is not a plain name: "):
            Archive(indexed(tmp_path, change))


@pytest.mark.parametrize(
    "part", [[-1, 3], [0, -1], [0, 1.5], [True, 1], [0], [0, 1, 2], None, "ab"]
)
def test_positions_are_whole_numbers(tmp_path: Path, part: object) -> None:
    path = indexed(tmp_path, lambda index: index["runs"]["a-s0"].update({"config.json": part}))
    with pytest.raises(ZiaError, match=r"^[^\n]*other\.zip: index\.json: "):
        Archive(path)


def test_index_and_members_match(tmp_path: Path) -> None:
    path = indexed(tmp_path, lambda index: index["runs"]["a-s0"].update({"config.json": [9, 99]}))
    with pytest.raises(ZiaError, match=r"index\.json and config\.json do not match"):
        everything(path)
    path = indexed(tmp_path, lambda index: index["runs"]["a-s0"].update({"other.json": [0, 1]}))
    with pytest.raises(ZiaError, match=r"has no member other\.json: restore the archive"):
        everything(path)


def test_a_bomb_does_not_explode(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """32 MB of zeros in 60 bytes."""
    monkeypatch.setattr(archive, "MOST_BYTES", 1 << 20)
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w") as file:
        file.writestr("index.json.bz2", bz2.compress(bytes(1 << 25)))
    tracemalloc.start()
    with pytest.raises(
        ZiaError, match=r"the member index\.json has more than the 1048576 bytes th"
    ):
        Archive(path)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 8 << 20


def test_a_bomb_in_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "bomb.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        file.writestr("index.json.bz2", bz2.compress(b"{}"))
    with pytest.raises(ZiaError, match=r"the member index\.json is packed twice: restore"):
        Archive(path)
