"""A grid that went through preemptions and a dead node gives the tables of a quiet day."""

import os
import random
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tests.slurm.cluster import CPUS, Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, Grid, contents, five_experiments

PREEMPTIONS = 2
STEPS_BETWEEN = (8, 40)  # two faults, of all runs together: the grid has some 700


def tables(out: Path) -> dict[str, list[bytes]]:
    """The lines of every file of tables but those about time and memory."""
    return {
        path.name: [
            line for line in path.read_bytes().splitlines() if not line.startswith(b"efficiency,")
        ]
        for path in (out / "tables").iterdir()
        if not path.name.startswith("efficiency")
    }


def node_and_job_at_a_moment(
    cluster: Cluster, grid: Grid, numbers: random.Random
) -> tuple[str, str]:
    """Let the grid go on for a random number of steps; where then a run is in training."""
    until = _steps(grid) + numbers.randint(*STEPS_BETWEEN)
    found: list[tuple[str, str]] = []

    def is_time() -> bool:
        assert not grid.is_done(), grid.story()  # this has requeued jobs begin, too
        if _steps(grid) >= until:
            # A job that is about to make way has its run for a moment more, but is not running.
            jobs = {told["BatchHost"]: job for job, told in _running(cluster, grid)}
            runs = [run for run in range(len(grid.specs)) if _is_in_training(grid, run)]
            hosts = [grid.attempts(run)[-1]["host"] for run in runs]
            found[:] = [(host, jobs[host]) for host in hosts if host in jobs]
        return bool(found)

    wait_until(is_time, PATIENCE_S, f"{until} steps", grid.story)
    return numbers.choice(found)


def _running(cluster: Cluster, grid: Grid) -> list[tuple[str, dict[str, str]]]:
    told = [(job, cluster.job(job)) for job in grid.jobs()]
    return [(job, each) for job, each in told if each["JobState"] == "RUNNING"]


def _steps(grid: Grid) -> int:
    return sum(max(0, grid.step(run)) for run in range(len(grid.specs)))


def _is_in_training(grid: Grid, run: int) -> bool:
    """Whether somebody works on it, and has done steps, but not yet half of them."""
    status = grid.status(run)
    half = status["progress"].get("total", 0) / 2
    return status["state"] == "running" and 0 < grid.step(run) <= half


def preempt(cluster: Cluster, grid: Grid, node: str, job: str) -> None:
    """Somebody of more importance has the node until its job is back in the queue."""
    before = cluster.job(job)["Restarts"]

    def has_made_way() -> bool:
        return cluster.job(job)["Restarts"] != before

    with cluster.wanted_by_others(node):
        wait_until(has_made_way, PATIENCE_S, f"{job} has made way", grid.story)


@contextmanager
def dead(cluster: Cluster, node: str, job: str) -> Iterator[None]:
    """Within the block, a node is gone with all processes of its job."""
    processes = cluster.processes(job)
    cluster.kill_node(node)
    try:
        for process in processes:
            with suppress(ProcessLookupError):  # it has ended with another one
                os.kill(process, signal.SIGKILL)
        yield
    finally:
        cluster.start_node(node)


def test_the_tables_do_not_tell_what_the_grid_went_through(
    cluster: Cluster,
    new_grid: NewGrid,
    audit: Callable[[Grid, Path], None],
    killed: Callable[[str], None],
    tmp_path: Path,
) -> None:
    """All five experiments, two seeds each, disturbed at seeded random moments."""
    numbers = random.Random(7)
    grid = new_grid(five_experiments(), workers=2, cpus_per_task=CPUS)  # a worker fills its node
    grid.submit()
    with grid.reproduce_undisturbed(tmp_path) as quiet:
        try:
            for _ in range(PREEMPTIONS):
                preempt(cluster, grid, *node_and_job_at_a_moment(cluster, grid, numbers))
                killed("preemption in a grid")
            with dead(cluster, *node_and_job_at_a_moment(cluster, grid, numbers)):
                killed("death of a node in a grid")
                grid.wait_until_done()
            said, _ = quiet.communicate(timeout=PATIENCE_S)
        finally:
            quiet.kill()
    assert quiet.returncode == 0, said
    audit(grid, tmp_path / "runs")
    ends = [[attempt["end"] for attempt in grid.attempts(i)] for i in range(len(grid.specs))]
    assert {end for each in ends for end in each} == {"preempted", "lost", "done"}, ends
    for run in map(grid.path, range(len(grid.specs))):
        assert contents(run) == contents(tmp_path / run.relative_to(grid.folder))
    wait_until(lambda: not grid.jobs(), PATIENCE_S, "the last worker has made tables", grid.story)
    ours, theirs = tables(grid.folder / "out"), tables(tmp_path / "out")
    assert ours.keys() == theirs.keys()
    assert [name for name in ours if ours[name] != theirs[name]] == []
