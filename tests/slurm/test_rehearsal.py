"""`zia rehearse` on a cluster: both nodes do runs, each of which is stopped and resumed."""

from experiments.harness import plan, run_paths, stored
from tests.slurm.cluster import CPUS
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S

EXPERIMENT = "squad_roberta"


def test_a_rehearsal_goes_through_the_cluster_file(
    new_grid: NewGrid,
) -> None:
    grid = new_grid("plain", workers=2, cpus_per_task=CPUS, mem_gb=4)  # a worker fills its node
    what = ["rehearse", EXPERIMENT, "--executor", "slurm", "--device", "cpu"]
    places = ["--folder", str(grid.folder), "--cluster", str(grid.folder / "cluster.toml")]
    with grid.zia(*what, *places) as zia:
        said, _ = zia.communicate(timeout=PATIENCE_S)
    assert zia.returncode == 0, said + grid.logs()
    planned = plan.planned(EXPERIMENT, "paper-rehearsal", "cpu")
    assert "twin: roberta-large, with nothing of the real one" in said
    assert f"paper-rehearsal: {len(planned)} done" in said
    attempts = [stored.read_status(run)["attempts"] for run in run_paths.folders(grid.runs)]
    assert len(attempts) == len(planned)
    assert {tuple(each["end"] for each in of_run) for of_run in attempts} == {("preempted", "done")}
    if grid.slurm.partition:  # our own two nodes
        assert {each["host"] for of_run in attempts for each in of_run} == {"n1", "n2"}
    assert "full" in (grid.folder / "out/tables/squad.md").read_text()
