"""From nothing to a report, as the README tells: `zia fetch`, `zia check`, `zia rehearse`."""

import os
import shlex
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from experiments.alpaca_llama.rehearsal import REHEARSAL
from experiments.harness import plan, run_paths, stored
from tests.hub_server import HubServer
from tests.hub_stand_ins import serve_alpaca, serve_model, serve_squad
from tests.transcripts import differs, transcript

README = Path(__file__).parents[2] / "experiments/dispatch/README.md"
EXPERIMENT = "alpaca_llama"
COMMANDS = transcript(README, EXPERIMENT)
FOLDER = "it's a folder"


def write_archives(made: Path, archives: Path) -> None:
    """What is on no hub, as people download it: GitHub's zip file, and a file."""
    for name, write in REHEARSAL.write.items():
        write(made / name)
    archives.mkdir()
    name = "user_oriented_instructions.jsonl"
    with zipfile.ZipFile(archives / "self-instruct-main.zip", "w") as archive:
        archive.write(made / "alpaca" / name, f"self-instruct-main/human_eval/{name}")
    shutil.copy(made / "vicuna80/question.jsonl", archives)


@pytest.fixture(scope="module")
def folder(repository: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which every command was run; files tell what each printed."""
    folder, made = tmp_path_factory.mktemp(FOLDER), tmp_path_factory.mktemp("made")
    with HubServer().running() as hub, pytest.MonkeyPatch.context() as patch:
        patch.setenv("ZIA_WEIGHTS", str(made / "none"))  # twins of nothing real
        serve_model(hub, "llama-7b", made)
        serve_alpaca(hub, made)
        serve_squad(hub, made)
        write_archives(made, folder / "archives")
        path = os.pathsep.join(filter(None, (str(repository), os.environ.get("PYTHONPATH"))))
        own = {"ZIA_DATA": str(folder / "data"), "ZIA_WEIGHTS": str(folder / "weights")}
        own |= {"PYTHONPATH": path, "CUDA_VISIBLE_DEVICES": ""}
        environment = hub.environment(made / "home", **own)
        for number, command in enumerate(COMMANDS):
            done = subprocess.run(
                [sys.executable, "-m", "experiments.cli", *shlex.split(command)[1:]],
                cwd=folder, env=environment, capture_output=True, text=True, check=False,
            )  # fmt: skip
            assert done.returncode == 0, done.stdout + done.stderr
            (folder / f"said-{number}").write_text(done.stdout)
    return folder


@pytest.mark.parametrize("number", range(len(COMMANDS)), ids=[c.split()[1] for c in COMMANDS])
def test_each_command_prints_what_the_readme_says(folder: Path, number: int) -> None:
    expected = list(COMMANDS.values())[number]
    assert not differs(expected, (folder / f"said-{number}").read_text(), folder)


def test_all_runs_are_done_and_tabulated(folder: Path) -> None:
    assert [command.split()[1] for command in COMMANDS] == ["fetch", "check", "rehearse"]
    rehearsed = folder / "results/rehearsal/paper"
    planned = plan.planned(EXPERIMENT, "paper-rehearsal", "cpu")
    states = [stored.read_status(run) for run in run_paths.folders(rehearsed / "runs")]
    assert [state["state"] for state in states] == ["done"] * len(planned)
    assert (rehearsed / "data/alpaca").resolve() == (folder / "data/alpaca").resolve()
    methods = {spec.method for spec in planned}
    table = (rehearsed / "out/tables/efficiency.md").read_text("utf-8")
    assert {method for method in methods if f"| {method} |" in table} == methods
    assert (rehearsed / "out/report.html").exists()
