"""A node on which nothing starts does not eat a grid's jobs."""

from collections.abc import Callable

from experiments.dispatch import bad_nodes
from tests.slurm.cluster import CPUS, Cluster, wait_until
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, Grid


def test_jobs_keep_away_from_a_node_on_which_python_does_not_start(
    cluster: Cluster,
    new_grid: NewGrid,
    audit: Callable[[Grid], None],
    killed: Callable[[str], None],
) -> None:
    """Three jobs, each of which fills a node: all would be lost on the one that is quick."""
    broken = '[ "$SLURMD_NODENAME" != n1 ] || export PYTHONHOME=/nowhere'
    grid = new_grid("six", workers=3, cpus_per_task=CPUS, setup=[broken])
    grid.submit()
    killed("a node on which nothing starts")
    grid.wait_until_done()
    assert {attempt["host"] for run in range(6) for attempt in grid.attempts(run)} == {"n2"}
    audit(grid)
    wait_until(
        lambda: cluster.release(grid.jobs()) or not grid.jobs(),
        PATIENCE_S,
        "no job is left",
        grid.story,
    )
    (submitted,) = (grid.runs / "submissions").glob("*-*")
    assert [path.name for path in (submitted / bad_nodes.BAD_NODES).iterdir()] == ["n1"]
    told = grid.logs()
    assert "no run starts on node n1 (exit code 1, see above)" in told
    assert "No module named 'encodings'" in told  # the reason
