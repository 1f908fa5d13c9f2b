"""A grid that went through a preemption and a dead node gives the tables of a quiet day."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from experiments.harness import reporting
from tests.slurm.cluster import CPUS, Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, QUICK_S, Grid


def tables(out: Path) -> dict[str, bytes]:
    """Every file of tables but those about time and memory."""
    files = {path.name: path.read_bytes() for path in (out / "tables").iterdir()}
    return {name: data for name, data in files.items() if not name.startswith("efficiency")}


def test_the_tables_do_not_tell_what_the_grid_went_through(
    cluster: Cluster,
    new_grid: NewGrid,
    audit: Callable[[Grid], None],
    killed: Callable[[str], None],
    reference: Callable[[str], Path],
    tmp_path: Path,
) -> None:
    grid = new_grid("six", workers=2, cpus_per_task=CPUS)  # a worker fills its node
    grid.pace(QUICK_S)
    grid.submit()
    for run in (0, 1):
        grid.reach(run, 7)
    jobs = {cluster.job(job)["BatchHost"]: job for job in grid.jobs()}
    preempted, killed_run = (0, 1) if grid.attempts(0)[-1]["host"] == "n1" else (1, 0)
    with cluster.wanted_by_others("n1"):
        wait_until(
            lambda: grid.state(preempted) == "preempted", PATIENCE_S, "preempted", grid.story
        )
    killed("preemption in a grid")
    cluster.kill_node("n2")
    for process in cluster.processes(jobs["n2"]):
        os.kill(process, signal.SIGKILL)
    killed("death of a node in a grid")
    try:
        grid.wait_until_done()
    finally:
        cluster.start_node("n2")
    assert grid.attempts(killed_run)[0]["end"] == "lost"
    audit(grid)
    wait_until(lambda: not grid.jobs(), PATIENCE_S, "the last worker has made tables", grid.story)
    list(reporting.make(reference("six"), tmp_path / "quiet"))
    ours, theirs = tables(grid.folder / "out"), tables(tmp_path / "quiet")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
