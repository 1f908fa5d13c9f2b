"""Archives only grow: runs that are there stay, whatever happens while others are added."""

import signal
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager, suppress
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import status_table
from experiments.dispatch.in_process import run_one
from experiments.harness import archive, plan, publish, registry, run_paths, stored
from experiments.harness.archive import Archive
from tests.child_processes import StartChild, file_size_limit, start_child
from tests.harness import toy
from zia_core.errors import ZiaError

__all__ = ["file_size_limit", "start_child"]  # fixtures


@pytest.fixture(autouse=True)
def _toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


def runs(tmp_path: Path, *seeds: int) -> Path:
    """A folder with a finished run of each seed."""
    root = tmp_path / "-".join(map(str, seeds))
    for seed in seeds:
        run_one(toy.spec(seed=seed), root)
    return root


def seeds(published: Path) -> list[int]:
    found = run_paths.every_run(published).values()
    return sorted(stored.load_sealed(path).config["seed"] for path in found)


def test_runs_are_added_and_none_is_lost(tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish.publish(runs(tmp_path, 1, 2), published)
    before = {run.name: run.contents() for run in Archive(published / "toy-mini.zip").runs}
    (added,) = publish.publish(runs(tmp_path, 2, 3), published)
    assert seeds(published) == [1, 2, 3]
    after = {run.name: run.contents() for run in Archive(published / "toy-mini.zip").runs}
    assert after.items() > before.items()
    assert after.keys() - before.keys() == {added.name}


def test_a_run_that_is_there_is_not_replaced_by_a_different_one(tmp_path: Path) -> None:
    root, published = runs(tmp_path, 1), tmp_path / "published"
    (run,) = publish.publish(root, published)
    other = run.contents() | {stored.RESULT: b"{}"}
    archive.write(run.archive.path, "toy", "mini", {run.name: other})
    assert publish.publish(root, published) == []
    assert Archive(run.archive.path).runs[0].contents() == other


def test_each_profile_has_its_archive(tmp_path: Path) -> None:
    root = runs(tmp_path, 1)
    run_one(replace(toy.spec(), profile="small"), root)
    publish.publish(root, tmp_path / "published")
    names = {path.name for path in run_paths.archives_of(tmp_path / "published")}
    assert names == {"toy-mini.zip", "toy-small.zip"}


KILLED = """
import os, signal, sys
from pathlib import Path
from experiments.harness import publish, registry
from tests.harness import toy
registry.experiments = toy.only_toy
def trace(frame, event, argument):
    # Bytes of the new archive are on disk, under whatever name.
    if frame.f_code.co_name == sys.argv[3] and event == "call":
        os.kill(os.getpid(), signal.SIGKILL)
sys.setprofile(trace)
publish.publish(Path(sys.argv[1]), Path(sys.argv[2]))
"""


@pytest.mark.parametrize("at", ["_write_end_record", "fsync", "replace"])
def test_a_killed_publisher_leaves_the_old_archive_whole(
    tmp_path: Path, start_child: StartChild, at: str
) -> None:
    published = tmp_path / "published"
    publish.publish(runs(tmp_path, 1), published)
    before = (published / "toy-mini.zip").read_bytes()
    child = start_child(KILLED, runs(tmp_path, 2), published, at)
    assert child.wait(60) == -signal.SIGKILL
    assert (published / "toy-mini.zip").read_bytes() == before
    left = [path for path in published.iterdir() if path.name != "toy-mini.zip"]
    assert any(path.suffix == ".zip" and path.stat().st_size for path in left)
    assert seeds(published) == [1]
    publish.publish(tmp_path / "2", published)
    assert seeds(published) == [1, 2]
    assert {path.name for path in published.iterdir()} == {"toy-mini.zip", publish.LOCK}


def test_two_publishers_at_once_lose_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Both would have read the archive before either writes it, were it not for the lock."""
    roots, published = [runs(tmp_path, seed) for seed in (1, 2)], tmp_path / "published"
    write, both = archive.write, threading.Barrier(2)

    def late(*what: object) -> None:
        with suppress(threading.BrokenBarrierError):
            both.wait(timeout=1.0)  # as long as the other may need to come here
        write(*what)  # type: ignore[arg-type]

    monkeypatch.setattr(archive, "write", late)
    publishers = [
        threading.Thread(target=publish.publish, args=(root, published)) for root in roots
    ]
    for publisher in publishers:
        publisher.start()
    for publisher in publishers:
        publisher.join()
    assert seeds(published) == [1, 2]


def test_a_full_disk_is_one_sentence_and_loses_nothing(
    tmp_path: Path, file_size_limit: Callable[[int], AbstractContextManager[None]]
) -> None:
    published = tmp_path / "published"
    publish.publish(runs(tmp_path, 1), published)
    path = published / "toy-mini.zip"
    before = path.read_bytes()
    root = runs(tmp_path, 2)
    with (
        file_size_limit(len(before) // 2),
        pytest.raises(ZiaError, match=rf"^cannot write {path}: [^\n]*before is unchanged"),
    ):
        publish.publish(root, published)
    assert path.read_bytes() == before
    assert {each.name for each in published.iterdir()} == {"toy-mini.zip", publish.LOCK}


def test_nothing_is_added_to_a_damaged_archive(tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish.publish(runs(tmp_path, 1), published)
    path = published / "toy-mini.zip"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    with pytest.raises(ZiaError, match=rf"^{path}: the member [\w.]+ cannot be read"):
        publish.publish(runs(tmp_path, 2), published)
    assert path.read_bytes() == content


def test_plan_and_status_know_archived_runs(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    published = tmp_path / "published"
    publish.publish(runs(tmp_path, 0), published)
    states = [run.state for run in plan.inspect_all(toy.EXPERIMENT.plan("", ""), published)]
    assert states == ["done", "missing", "missing"]
    status_table.show(published, watch=False)
    assert "toy, profile mini" in capsys.readouterr().out
