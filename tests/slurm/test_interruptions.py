"""A run that Slurm interrupts and starts again ends byte for byte as one that nobody disturbed."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest

from tests.slurm.cluster import NODES, Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, QUICK_S, Grid

Audit = Callable[[Grid], None]
Killed = Callable[[str], None]


@contextmanager
def time_limit(cluster: Cluster, job: str) -> Iterator[None]:
    """Less than the minute is left before which Slurm sends the signal."""
    _, minutes, _ = cluster.job(job)["RunTime"].split(":")
    cluster.command("scontrol", "update", f"jobid={job}", f"TimeLimit={int(minutes) + 1}")
    yield
    # The job that is started again has its whole time again.
    cluster.command("scontrol", "update", f"jobid={job}", "TimeLimit=20")


@contextmanager
def requeue(cluster: Cluster, job: str) -> Iterator[None]:
    cluster.command("scontrol", "requeue", job)
    yield


@contextmanager
def preemption(cluster: Cluster, job: str) -> Iterator[None]:
    """Somebody of more importance wants both nodes."""
    with cluster.wanted_by_others(*NODES):
        yield


@pytest.mark.parametrize("interrupt", [time_limit, preemption, requeue])
def test_an_interrupted_run_goes_on(
    cluster: Cluster,
    new_grid: NewGrid,
    audit: Audit,
    killed: Killed,
    interrupt: Callable[[Cluster, str], AbstractContextManager[None]],
) -> None:
    grid = new_grid("one", signal_delay_s=60)
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(0, 7)  # the newest checkpoint is that of step 5
    (job,) = grid.jobs()
    killed(interrupt.__name__)
    with interrupt(cluster, job):
        wait_until(lambda: grid.state(0) == "preempted", PATIENCE_S, "it stopped", grid.story)
    stopped_after = grid.step(0)
    assert 7 <= stopped_after < grid.specs[0].settings.steps
    grid.wait_until_done()
    assert cluster.job(job)["Restarts"] == "1"
    assert [attempt["end"] for attempt in grid.attempts(0)] == ["preempted", "done"]
    audit(grid)


def test_a_cancelled_job_is_not_started_again(
    cluster: Cluster, new_grid: NewGrid, audit: Audit, killed: Killed
) -> None:
    grid = new_grid("one")
    grid.pace(QUICK_S)
    grid.submit()
    grid.reach(0, 7)
    (job,) = grid.jobs()
    cluster.command("scancel", job)
    killed("scancel")
    wait_until(lambda: not grid.jobs(), PATIENCE_S, "the job has ended", grid.story)
    assert cluster.job(job)["JobState"] == "CANCELLED"
    assert grid.state(0) == "preempted"
    grid.submit()
    grid.wait_until_done()
    audit(grid)
