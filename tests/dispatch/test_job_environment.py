"""A job submitted from inside another one inherits nothing of it."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.cli import main
from experiments.dispatch import job_environment, squeue
from experiments.dispatch.cluster_file import Cluster
from experiments.harness import registry
from tests.dispatch.stand_ins import QUICK, StandIns, submit
from tests.harness import toy

OF_A_JOB = {
    "SLURM_JOB_ID": "90",
    "SLURM_ARRAY_JOB_ID": "88",
    "SLURM_ARRAY_TASK_ID": "2",
    "SLURM_RESTART_COUNT": "1",
    "SLURM_MEM_PER_CPU": "100",
    "SLURM_CPU_BIND": "quiet,map_cpu:0",
    "SLURM_EXPORT_ENV": "NONE",
    "SLURM_PROCID": "3",
    "SLURMD_NODENAME": "n1",
    "SBATCH_JOB_NAME": "mine",
    "SBATCH_ARRAY_INX": "0-9",
    "SBATCH_NO_REQUEUE": "1",
    "SQUEUE_STATES": "RUNNING",
    "SCANCEL_STATE": "PENDING",
    "SUBMITIT_EXECUTOR": "local",
    "SUBMITIT_PREEMPT_SIGNAL": "USR1",
    "PMI_RANK": "3",
}
OF_A_PROCESS = {
    "CUDA_VISIBLE_DEVICES": "3",
    "RANK": "1",
    "LOCAL_RANK": "1",
    "WORLD_SIZE": "2",
    "MASTER_ADDR": "elsewhere",
}
OF_THE_CLUSTER = {
    "SLURM_CONF": "/etc/slurm/slurm.conf",
    "SLURM_CLUSTERS": "east",
    "SBATCH_ACCOUNT": "ours",
    "SBATCH_PARTITION": "short",
}


@pytest.fixture(autouse=True)
def _inside_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    for name, value in (OF_A_JOB | OF_A_PROCESS | OF_THE_CLUSTER).items():
        monkeypatch.setenv(name, value)


def test_a_job_inherits_what_locates_the_cluster_and_nothing_of_the_job_that_submits(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    before = dict(os.environ)
    assert submit(tmp_path) is not None
    given = stand_ins.environment("sbatch")
    assert not given.keys() & (OF_A_JOB | OF_A_PROCESS).keys()
    assert OF_THE_CLUSTER.items() <= given.items()
    assert dict(os.environ) == before


def test_nodes_are_counted_in_the_partition_that_a_variable_names(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    stand_ins.answer("sinfo", "main* n1\nshort n2\nshort n3\nlong n4\nlong n5\nlong n6\n")
    for file, spare in ((QUICK, 1), (replace(QUICK, partition="long"), 2)):
        submitted = submit(tmp_path / str(spare), Cluster(file))
        assert submitted is not None
        (script,) = (submitted.folder / "logs").glob("71_submission.sh")
        assert f"export ZIA_SPARE_NODES={spare}\n" in script.read_text("utf-8")


def test_the_cluster_file_goes_over_variables_of_sbatch(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    assert submit(tmp_path, Cluster(replace(QUICK, partition="long"))) is not None
    given = stand_ins.environment("sbatch")
    assert "SBATCH_PARTITION" not in given
    assert given["SBATCH_ACCOUNT"] == "ours"


def test_questions_to_slurm_are_those_that_are_asked(stand_ins: StandIns) -> None:
    """$SQUEUE_STATES=RUNNING would hide jobs that wait, and they would be submitted twice."""
    squeue.jobs()
    given = stand_ins.environment("squeue")
    assert not given.keys() & OF_A_JOB.keys()
    assert OF_THE_CLUSTER.items() <= given.items()


def test_our_signal_overrides_that_of_submitit(tmp_path: Path, repository: Path) -> None:
    program = "from experiments.cli.main import main; main()"
    shown = subprocess.run(
        [sys.executable, "-c", program, "reproduce", "toy", "--executor", "slurm", "--dry-run"],
        cwd=tmp_path,
        env=os.environ | {"PYTHONPATH": str(repository), "ZIA_EXPERIMENTS": "tests.toys"},
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert "#SBATCH --signal=USR2@120" in shown


def test_zia_ignores_inherited_ranks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["zia", "--help"])
    with pytest.raises(SystemExit):
        main.main()
    assert not job_environment.RANKS & os.environ.keys()
