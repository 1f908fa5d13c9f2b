"""The batch script: dry run, hostile names, and how it starts Python."""

import shlex
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import slurm, submission
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.dispatch.worker import name_of
from experiments.harness import registry
from tests.dispatch.stand_ins import QUICK, StandIns, request_in, submit
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


def test_the_script_is_the_one_that_a_dry_run_shows(tmp_path: Path, stand_ins: StandIns) -> None:
    shown = "\n".join(slurm.dry_run(request_in(tmp_path), Cluster(QUICK)))
    submitted = submit(tmp_path)
    assert submitted is not None
    (script,) = (submitted.folder / submission.LOGS).glob("71_submission.sh")
    name = next(w for w in shown.split() if w.startswith("--job-name")).split("zia-")[1][:-2]
    assert script.read_text().replace(submitted.name, name) in shown


HOSTILE = """it's "$(touch pwned)" `touch pwned`; touch pwned & #é"""


def test_hostile_names_reach_the_job_as_they_are_and_do_nothing(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The script is run by bash, which is what Slurm does with it, up to srun."""
    hostile = replace(toy.spec(), backbone=f"../../{HOSTILE}\n", data=f"/etc/{HOSTILE}\n")
    changed = replace(toy.EXPERIMENT, plan=lambda profile, device: [hostile])
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": changed})
    folder = tmp_path / HOSTILE
    monkeypatch.setenv("ZIA_DATA", f"/data/{HOSTILE}\ntouch pwned\n")
    monkeypatch.setenv("PYTHONPATH", HOSTILE)
    needs = Resources(partition=HOSTILE, constraint=HOSTILE, setup=("export FROM_SETUP=1",))
    submitted = submit(folder, Cluster(needs))
    assert submitted is not None
    assert (folder / "runs" / name_of(hostile)).resolve().is_relative_to(folder / "runs")
    script = submitted.folder / submission.LOGS / "71_submission.sh"
    directives = [line for line in script.read_text().splitlines() if line.startswith("#SBATCH")]
    assert len(directives) == 13

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    subprocess.run(["bash", str(script)], cwd=elsewhere, check=True)
    environment = stand_ins.environment("srun")
    assert environment["ZIA_DATA"] == f"/data/{HOSTILE}\ntouch pwned\n"
    assert environment["ZIA_SUBMISSION"] == str(submitted.folder)
    assert environment["PYTHONPATH"] == f"{submitted.code}:{HOSTILE}"
    assert environment["FROM_SETUP"] == "1"
    (call,) = stand_ins.calls("srun")
    assert call[-1] == str(submitted.folder / submission.LOGS)
    assert "--cpus-per-task=4" in call
    assert not list(tmp_path.rglob("pwned"))
    assert not list(elsewhere.iterdir())


def test_a_folder_at_whose_name_pythonpath_is_split_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="has a ':' in its name, which splits PYTHONPATH"):
        submit(tmp_path / "a:b")
    with pytest.raises(ZiaError, match="has a ':' in its name, which splits PYTHONPATH"):
        list(slurm.dry_run(request_in(tmp_path / "a:b"), Cluster(QUICK)))
    assert not list(tmp_path.glob("a:b/*"))


@pytest.mark.parametrize("name", ["a%j", "a\nb", "a\tb", "a\\b"])
def test_a_folder_that_slurm_could_not_write_to_is_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ZiaError, match="has a %, a backslash or a control character"):
        submit(tmp_path / name)
    with pytest.raises(ZiaError, match="has a %, a backslash or a control character"):
        list(slurm.dry_run(request_in(tmp_path / name), Cluster(QUICK)))


@pytest.fixture
def python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """This Python, in a folder that no kernel finds behind #! and no shell without quotes."""
    python = tmp_path / "it's a clône" / "python"
    python.parent.mkdir()
    python.symlink_to(sys.executable)
    monkeypatch.setattr(sys, "executable", str(python))
    return str(python)


def test_stand_ins_run_wherever_python_lies(python: str, tmp_path: Path) -> None:
    programs = tmp_path / "more of them"
    programs.mkdir()
    stand_ins = StandIns(programs)
    stand_ins.answer("squeue", "one\n")
    command = [programs / "squeue", "a b", "it's"]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"one\n"
    assert stand_ins.calls("squeue") == [["a b", "it's"]]


def test_usr2_while_python_starts_does_not_end_the_job(python: str, tmp_path: Path) -> None:
    shown = "\n".join(slurm.dry_run(request_in(tmp_path), Cluster(QUICK)))
    (line,) = [line for line in shown.splitlines() if line.startswith("srun")]
    words = shlex.split(line)
    shell = words.index("/bin/sh")
    assert words[shell + 3 : shell + 6] == [python, "-u", "-m"]
    program = "import os, signal; os.kill(os.getpid(), signal.SIGUSR2); print('alive')"
    command = [*words[shell : shell + 4], "-c", program]
    assert subprocess.run(command, capture_output=True, check=True).stdout == b"alive\n"
