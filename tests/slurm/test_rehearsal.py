"""`zia fetch`, `zia check` and `zia rehearse` on a cluster; both nodes do and resume runs."""

import shlex
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from experiments.harness import plan, run_paths, stored
from tests.hub_server import HubServer
from tests.hub_stand_ins import serve_model, serve_squad
from tests.slurm.cluster import CPUS
from tests.slurm.conftest import NewGrid
from tests.slurm.grid import PATIENCE_S, PROJECT, ZIA, Grid
from tests.transcripts import HOME, differs, transcript

EXPERIMENT = "squad_roberta"
REHEARSED = "results/rehearsal/paper"  # the default of --folder
COMMANDS = transcript(PROJECT / "experiments/dispatch/README.md", EXPERIMENT)


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """What the experiment needs is at a hub, and nothing of it is here."""
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "weights"))
    with HubServer().running() as hub:
        serve_model(hub, "roberta-large", tmp_path / "served")
        serve_squad(hub, tmp_path / "served")
        yield hub.environment(tmp_path / "home", ZIA_DATA=str(tmp_path / "data"))


def run(grid: Grid, command: str, environment: dict[str, str]) -> str:
    """What a command prints in the folder of a grid, with its cluster file."""
    own = {"ZIA_CLUSTER": str(grid.folder / "cluster.toml"), "PYTHONPATH": str(PROJECT)}
    own |= grid.slurm.environment
    words = shlex.split(command)[1:]
    # The default is in a subfolder, which a grid does not look into.
    folder = ["--folder", str(grid.folder)] if words[0] == "rehearse" else []
    done = subprocess.run(
        [*ZIA, *words, *folder], cwd=grid.folder, env=environment | own,
        capture_output=True, text=True, check=False, timeout=PATIENCE_S,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr + grid.logs()
    return done.stdout


def test_a_cluster_goes_from_nothing_to_a_report(
    new_grid: NewGrid, environment: dict[str, str]
) -> None:
    # A worker fills its node.
    grid = new_grid("plain", workers=2, cpus_per_task=CPUS, mem_gb=4, gpus_per_node=0)
    for command, expected in COMMANDS.items():
        said = run(grid, command, environment).replace(f"{grid.folder}/", f"{HOME}/{REHEARSED}/")
        assert not differs(expected, said, grid.folder)
    planned = plan.planned(EXPERIMENT, "paper-rehearsal", "cpu")
    attempts = [stored.read_status(run)["attempts"] for run in run_paths.folders(grid.runs)]
    assert len(attempts) == len(planned)
    assert {tuple(each["end"] for each in of_run) for of_run in attempts} == {("preempted", "done")}
    if grid.slurm.partition:  # our own two nodes
        assert {each["host"] for of_run in attempts for each in of_run} == {"n1", "n2"}
    assert "full" in (grid.folder / "out/tables/squad.md").read_text()
    assert [command.split()[1] for command in COMMANDS] == ["fetch", "check", "rehearse"]
