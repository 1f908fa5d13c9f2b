"""A disk that is full and a folder that became read-only while a job works there."""

import subprocess
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from experiments.harness import stored
from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, QUICK_S, Grid

Audit = Callable[[Grid], None]
SIZE = "40m"  # the snapshot of the code is most of it


def mount(*words: str) -> None:
    subprocess.run(["mount", *words], check=True, capture_output=True)


@contextmanager
def mounted(folder: Path, *words: str) -> Iterator[None]:
    """Something lies over a folder within the block; all nodes, being this machine, see it."""
    folder.mkdir(parents=True, exist_ok=True)
    try:
        mount(*words, str(folder))
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("nothing can be mounted here")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


def fill(folder: Path) -> Path:
    """Leave no byte on the disk of a folder."""
    ballast = folder / "ballast"
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 1 << 12, 1):
            try:
                while True:
                    file.write(b"\0" * size)
            except OSError:
                continue
    return ballast


def checkpoints(grid: Grid) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in grid.path(0).glob(f"{stored.CHECKPOINT}/step-*")}


def has_ended(grid: Grid) -> None:
    grid.pace(0)
    wait_until(lambda: not grid.jobs(), PATIENCE_S, "the job has ended", grid.story)


def goes_on(grid: Grid, audit: Audit) -> None:
    """There is room again: the same command, where need be after a word, ends as if nothing had."""
    if grid.state(0) == "failed":
        retried = grid.zia("retry", "failed", "--runs", str(grid.runs))
        retried.communicate(timeout=PATIENCE_S)
    grid.submit()
    grid.wait_until_done()
    assert len(grid.attempts(0)) == 2
    audit(grid)


def test_a_full_disk_costs_nothing_but_time(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Callable[[str], None]
) -> None:
    grid = new_grid("one")
    with mounted(grid.runs, "-t", "tmpfs", "-o", f"size={SIZE}", "tmpfs"):
        grid.pace(QUICK_S)
        grid.submit()
        grid.reach(0, 7)
        kept = checkpoints(grid)
        assert "step-00000005.safetensors" in kept
        ballast = fill(grid.runs)
        killed("full disk")
        has_ended(grid)
        assert checkpoints(grid) == kept
        assert grid.state(0) != "done"
        ballast.unlink()
        goes_on(grid, audit)
        has_ended(grid)


def test_a_folder_that_becomes_read_only_is_a_clear_failure(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Callable[[str], None]
) -> None:
    grid = new_grid("one")
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(0, 7)
    kept, run = checkpoints(grid), grid.path(0)
    with mounted(run, "--bind", str(run)):
        mount("-o", "remount,bind,ro", str(run))
        killed("read-only folder")
        has_ended(grid)
        assert checkpoints(grid) == kept
        told = grid.logs()
        assert f"cannot write {run}" in told
        assert "Read-only file system" in told
        assert "Traceback" not in told, told
    goes_on(grid, audit)
