"""Processes and nodes that die, or only seem to: nothing is lost and nothing is done twice."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

from tests.slurm.cluster import Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, Grid

Audit = Callable[[Grid], None]
Killed = Callable[[str], None]
STEP_S = 0.25


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
    grid.submit(step_s=STEP_S)
    grid.wait_for_step(0, 7)
    pid = worker_of(grid, 0)
    (job,) = [j for j in grid.jobs() if pid in processes_of(cluster, j)]
    cluster.command("scancel", "--signal=KILL", "--full", job)
    killed("SIGKILL of a job")
    grid.wait_until_done()
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["lost", "done"]
    audit(grid)


def test_a_worker_killed_in_its_third_run(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    grid = new_grid("five")
    grid.submit(step_s=STEP_S / 2)
    grid.wait_for_step(2, 7)
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
    grid.submit(step_s=1.0)
    grid.wait_for_step(0, 2)
    (job,) = grid.jobs()
    orphan, node = worker_of(grid, 0), cluster.job(job)["BatchHost"]
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
        wait_until(lambda: not is_alive(orphan), PATIENCE_S, "the orphan gives up", grid.story)
        assert grid.status(0)["state"] == "running"
        grid.wait_until_done()
    finally:
        cluster.start_node(node)
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["lost", "done"]
    audit(grid)


def test_a_stopped_owner_is_overtaken_and_then_goes_on(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    """SIGSTOP for as long as it takes the other job to see that the owner's counter stands."""
    grid = new_grid("one", workers=2)
    grid.submit(step_s=STEP_S)
    grid.wait_for_step(0, 7)
    owner = worker_of(grid, 0)
    os.kill(owner, signal.SIGSTOP)
    killed("SIGSTOP of an owner, overtaken, continued")
    try:
        wait_until(lambda: grid.owner(0) == 2, PATIENCE_S, "it is overtaken", grid.story)
    finally:
        os.kill(owner, signal.SIGCONT)
    grid.wait_until_done()
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["lost", "done"]
    audit(grid)


def test_the_submitting_process_is_killed(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    """Whenever it dies, what it had submitted is done, and not submitted again."""
    grid = new_grid("two")
    process = grid.reproduce("--wait", step_s=STEP_S)
    wait_until(grid.jobs, PATIENCE_S, "a job is there", grid.story)
    process.kill()
    process.communicate()
    killed("SIGKILL of the submitting process")
    jobs = grid.jobs()
    said = grid.submit(step_s=STEP_S)
    assert grid.jobs() == jobs, said
    grid.wait_until_done()
    audit(grid)


def test_two_at_once_submit_the_work_of_one(
    new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    grid = new_grid("two")
    both = [grid.reproduce(step_s=STEP_S) for _ in range(2)]
    said = [process.communicate(timeout=PATIENCE_S)[0] for process in both]
    assert [process.returncode for process in both] == [0, 0], said
    assert len(list(grid.runs.glob("submissions/*/submission.json"))) == 1, said
    grid.wait_until_done()
    assert [grid.owner(run) for run in range(2)] == [1, 1]
    audit(grid)


def processes_of(cluster: Cluster, job: str) -> list[int]:
    """The processes of a job: those that have its number in their environment."""
    array, _, task = job.partition("_")
    found = []
    for place in Path("/proc").glob("[0-9]*/environ"):
        try:
            environment = place.read_bytes().split(b"\0")
        except OSError:
            continue
        if f"SLURM_ARRAY_JOB_ID={array}".encode() in environment and (
            f"SLURM_ARRAY_TASK_ID={task}".encode() in environment
        ):
            found.append(int(place.parent.name))
    return found
