"""Processes and nodes that die, or only seem to: nothing is lost and nothing is done twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, QUICK_S, SLOW_S, Grid

Audit = Callable[[Grid], None]
Killed = Callable[[str], None]

GIVES_UP = "is no longer this process's: owner number 2 has taken over"


def worker_of(grid: Grid, run: int) -> int:
    """The process that works on a run."""
    return int(grid.attempts(run)[-1]["pid"])


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except FileNotFoundError:
        return False


def test_a_killed_job_and_a_job_beside_it(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    """SIGKILL leaves no time for anything: the other job takes the run over where it stood."""
    grid = new_grid("two", workers=2)
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(0, 7)
    processes = [cluster.processes(job) for job in grid.jobs()]
    (own,) = [each for each in processes if worker_of(grid, 0) in each]
    for process in own:
        os.kill(process, signal.SIGKILL)
    killed("SIGKILL of a job")
    grid.wait_until_done()
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["lost", "done"]
    audit(grid)


def test_a_worker_killed_in_its_third_run(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    grid = new_grid("five")
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(2, 7)
    os.kill(worker_of(grid, 2), signal.SIGKILL)
    killed("SIGKILL of a worker in its third run")
    wait_until(lambda: not grid.jobs(), PATIENCE_S, "the job has ended", grid.story)
    before = [grid.owner(run) for run in range(5)]
    assert before == [1, 1, 1, 0, 0]
    grid.submit()
    grid.wait_until_done()
    assert [grid.owner(run) for run in range(5)] == [1, 1, 2, 1, 1]
    audit(grid)


def test_a_dead_node_whose_process_goes_on(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    """Slurm starts the job again on the other node, beside the process that it has lost."""
    grid = new_grid("one")
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(0, 7)
    (job,) = grid.jobs()
    orphan, node = worker_of(grid, 0), cluster.job(job)["BatchHost"]
    frozen = grid.frozen(orphan)
    frozen.touch()  # its heart goes on beating
    cluster.kill_node(node)
    killed("SIGKILL of a node's slurmd")
    try:
        wait_until(
            lambda: grid.owner(0) == 2 or cluster.release(grid.jobs()),
            PATIENCE_S,
            "the job has begun again",
            grid.story,
        )
        assert cluster.job(job)["BatchHost"] != node
        assert is_alive(orphan)
        frozen.unlink()
        wait_until(lambda: GIVES_UP in grid.logs(), PATIENCE_S, "the orphan gives up", grid.story)
        assert grid.state(0) == "running"  # in its successor's hands
        grid.wait_until_done()
    finally:
        frozen.unlink(missing_ok=True)
        cluster.start_node(node)
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["lost", "done"]
    audit(grid)


def test_a_stopped_owner_is_overtaken_and_then_goes_on(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    """SIGSTOP for as long as it takes the other job to see that the owner's counter stands."""
    grid = new_grid("two", workers=2)
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(0, 7)
    owner = worker_of(grid, 0)
    os.kill(owner, signal.SIGSTOP)
    killed("SIGSTOP of an owner, overtaken, continued")
    try:
        grid.pace(0)
        wait_until(
            lambda: grid.status(1)["state"] == "done", PATIENCE_S, "the other run", grid.story
        )
        grid.pace(SLOW_S)
        wait_until(lambda: grid.owner(0) == 2, PATIENCE_S, "it is overtaken", grid.story)
    finally:
        os.kill(owner, signal.SIGCONT)
    wait_until(lambda: GIVES_UP in grid.logs(), PATIENCE_S, "the owner gives up", grid.story)
    assert grid.state(0) == "running"
    grid.wait_until_done()
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["lost", "done"]
    audit(grid)


def test_the_submitting_process_is_killed(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    """Whenever it dies, what it had submitted is done, and not submitted again."""
    grid = new_grid("two")
    grid.pace(QUICK_S)
    process = grid.reproduce("--wait")
    wait_until(grid.jobs, PATIENCE_S, "a job is there", grid.story)
    process.kill()
    process.communicate()
    killed("SIGKILL of the submitting process")
    jobs = grid.jobs()
    said = grid.submit()
    assert grid.jobs() == jobs, said
    grid.wait_until_done()
    audit(grid)


def test_two_at_once_submit_the_work_of_one(
    new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    grid = new_grid("two")
    grid.pace(QUICK_S)
    both = [grid.reproduce() for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(list(grid.runs.glob("submissions/*/submission.json"))) == 1, said
    grid.wait_until_done()
    assert [grid.owner(run) for run in range(2)] == [1, 1]
    audit(grid)
