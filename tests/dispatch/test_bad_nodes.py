"""Bad nodes do not drain an array; bash runs the batch script."""

import os
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import bad_nodes, code_snapshot, job, slurm_job, submission
from experiments.dispatch.cluster_file import Cluster
from experiments.dispatch.slurm_job import WorkerJob
from experiments.dispatch.submission import Submission
from experiments.dispatch.worker import name_of
from experiments.harness import registry, stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from tests.dispatch.stand_ins import QUICK, StandIns, submission_in, submit
from tests.harness import toy
from zia_core.errors import ZiaError

PLAN = [toy.spec(seed=seed) for seed in range(5)]


@pytest.fixture
def toy_that(monkeypatch: pytest.MonkeyPatch) -> dict[str, object]:
    """What the toy does besides."""
    changes: dict[str, object] = {"plan": lambda profile, device: PLAN}
    monkeypatch.setattr(
        registry,
        "experiments",
        lambda: {"toy": replace(toy.EXPERIMENT, **changes)},  # type: ignore[arg-type]
    )
    return changes


def run_script(submitted: Submission, node: str, code: int, restarts: int = 0) -> str:
    """Run the batch script as Slurm does on a node, where the worker ends with `code`."""
    (script,) = (submitted.folder / submission.LOGS).glob("*_submission.sh")
    srun = Path(os.environ["PATH"].split(os.pathsep)[0]) / "srun"
    srun.write_text(f"#!/bin/sh\nexit {code}\n")
    place = {
        "SLURMD_NODENAME": node,
        "SLURM_JOB_ID": "72",
        "SLURM_ARRAY_JOB_ID": "71",
        "SLURM_ARRAY_TASK_ID": "1",
        "SLURM_RESTART_COUNT": str(restarts),
    }
    done = subprocess.run(
        ["bash", str(script)],
        env=os.environ | place,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    assert done.returncode == code
    return done.stdout


def submitted_on(stand_ins: StandIns, folder: Path, *nodes: str) -> Submission:
    lines = [f"main* {node}\nother n9\n" for node in nodes]
    stand_ins.answer("sinfo", "".join(lines))
    submitted = submit(folder, Cluster(replace(QUICK, exclude="n7")))
    assert submitted is not None
    stand_ins.call_jobs(submitted.job_name(0))
    return submitted


@pytest.mark.usefixtures("toy_that")
def test_a_job_that_did_not_get_going_starts_again_elsewhere_and_others_keep_away(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    submitted = submitted_on(stand_ins, tmp_path, "n1", "n2", "n3")
    (script,) = (submitted.folder / submission.LOGS).glob("*_submission.sh")
    assert "#SBATCH --exclude=n7\n" in script.read_text()
    said = run_script(submitted, "n1", 1)
    assert "no run starts on node n1 (exit code 1, see above)" in said
    assert stand_ins.calls("scontrol") == [
        ["requeue", "71_1"],
        ["update", "jobid=71_1", "ExcNodeList=n7,n1"],
        ["update", "jobid=71", "ExcNodeList=n7,n1"],
    ]
    run_script(submitted, "n2", 1, restarts=1)
    assert stand_ins.calls("scontrol")[4] == ["update", "jobid=71_1", "ExcNodeList=n7,n1,n2"]
    # One of the three must remain, and a submission may exclude two.
    said = run_script(submitted, "n3", 1, restarts=2)
    assert "not requeued: no run starts on n1,n2,n3" in said
    assert len(stand_ins.calls("scontrol")) == 6


@pytest.mark.usefixtures("toy_that")
@pytest.mark.parametrize("says", ["interactive\n", "zia-of\nanother-0\n", ""])
def test_a_job_that_is_not_ours_is_neither_requeued_nor_changed_nor_cancelled(
    tmp_path: Path, stand_ins: StandIns, says: str
) -> None:
    """Whoever submits inside a job hands on its number; Slurm says whose that is, or nothing."""
    submitted = submitted_on(stand_ins, tmp_path, "n1", "n2")
    stand_ins.answer("squeue", says, to="%j")
    if not says:
        stand_ins.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    said = run_script(submitted, "n1", 1)
    assert f"job 71_1 is not known as {submitted.job_name(0)}: left alone" in said
    assert stand_ins.calls("scontrol") == []
    assert stand_ins.calls("scancel") == []
    assert bad_nodes.avoided(submitted) == []


@pytest.mark.usefixtures("toy_that")
@pytest.mark.parametrize("code", [0, bad_nodes.EXIT_NOT_THE_NODE, 130, 137, 140, 143])
def test_who_ended_well_or_was_ended_says_nothing_about_the_node(
    tmp_path: Path, stand_ins: StandIns, code: int
) -> None:
    submitted = submitted_on(stand_ins, tmp_path, "n1", "n2")
    assert run_script(submitted, "n1", code) == ""
    assert stand_ins.calls("scontrol") == []


@pytest.mark.usefixtures("toy_that")
def test_a_job_whose_run_took_a_step_says_nothing_about_the_node(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    submitted = submitted_on(stand_ins, tmp_path, "n1", "n2")
    monkeypatch.setenv("SLURM_JOB_ID", "72")
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    bad_nodes.mark_started(submitted)
    assert run_script(submitted, "n1", 1, restarts=1) == ""
    assert "no run starts" in run_script(submitted, "n1", 139, restarts=2)


@pytest.mark.usefixtures("toy_that")
@pytest.mark.parametrize("nodes", [(), ("n1",)])
def test_where_no_other_node_is_known_a_job_just_ends(
    tmp_path: Path, stand_ins: StandIns, nodes: tuple[str, ...]
) -> None:
    said = run_script(submitted_on(stand_ins, tmp_path, *nodes), "n1", 1)
    assert "not requeued: no run starts on n1, and no other nodes are tried" in said
    assert stand_ins.calls("scontrol") == []


@pytest.mark.usefixtures("toy_that")
def test_a_job_that_cannot_be_kept_away_from_the_node_is_not_started_on_it_again(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    submitted = submitted_on(stand_ins, tmp_path, "n1", "n2")
    stand_ins.refuse("scontrol", "Access/permission denied")
    run_script(submitted, "n1", 1)
    assert stand_ins.calls("scancel") == [["71_1"]]


def work(submitted: Submission, monkeypatch: pytest.MonkeyPatch, node: str, spare: int) -> str:
    monkeypatch.setattr(code_snapshot, "check_imports", lambda code: None)  # this process has ours
    monkeypatch.setenv("SLURM_JOB_ID", "72")
    monkeypatch.setenv("SLURMD_NODENAME", node)
    monkeypatch.setenv(bad_nodes.SPARE_NODES, str(spare))
    return WorkerJob(str(submitted.folder), 0)()


def states(submitted: Submission) -> list[str]:
    return [stored.read_status(submitted.runs_root / name_of(spec))["state"] for spec in PLAN]


def no_mount(spec: RunSpec, folder: RunFolder) -> None:
    raise ZiaError("there are no data in /data")


@pytest.fixture
def five(tmp_path: Path) -> Submission:
    submitted = submission_in(tmp_path, "toy").with_group(0, runs=tuple(map(name_of, PLAN)))
    submitted.write()
    return submitted


def test_runs_that_fail_at_once_on_one_node_are_left_for_others(
    five: Submission,
    toy_that: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    toy_that["run"] = no_mount
    with pytest.raises(SystemExit) as ended:
        work(five, monkeypatch, "n1", spare=1)
    assert ended.value.code == 1  # so that the script does its part
    told = capsys.readouterr().err
    assert "3 consecutive runs failed on n1, the last with: there are no data in /data" in told
    assert "none took a step, so the node is taken to be at fault; 3 runs are pending" in told
    assert states(five) == ["pending"] * 5
    assert not list((five.folder / bad_nodes.STARTED).iterdir())

    # On the next node as well: it is not the node.
    summary = work(five, monkeypatch, "n2", spare=1)
    assert "3 failed" in summary
    assert states(five) == ["failed"] * 3 + ["pending"] * 2


def test_runs_that_fail_after_a_step_have_failed(
    five: Submission, toy_that: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def run(spec: RunSpec, folder: RunFolder) -> None:
        toy.run(replace(spec, settings=replace(spec.settings, fail="error")), folder)

    toy_that["run"] = run
    work(five, monkeypatch, "n1", spare=1)
    assert states(five) == ["failed"] * 3 + ["pending"] * 2
    assert [path.name for path in (five.folder / bad_nodes.STARTED).iterdir()] == ["72.0"]
    assert bad_nodes.avoided(five) == []


def test_a_node_without_the_gpu_ends_the_job_before_a_run_is_claimed(
    five: Submission, toy_that: dict[str, object], monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_gpu(device: str) -> str:
        raise ZiaError("device cuda: torch finds no GPU here")

    monkeypatch.setattr(job.plan, "resolve_device", no_gpu)
    with pytest.raises(SystemExit):
        work(five, monkeypatch, "n1", spare=1)
    assert states(five) == ["pending"] * 5
    assert not list((five.folder / bad_nodes.STARTED).iterdir())
    assert not (five.folder / slurm_job.REQUEUES).exists()


def test_code_that_was_changed_is_not_the_fault_of_the_node(
    five: Submission,
    toy_that: dict[str, object],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    (five.code / "sitecustomize.py").write_text("")
    with pytest.raises(SystemExit) as ended:
        work(five, monkeypatch, "n1", spare=1)
    assert ended.value.code == bad_nodes.EXIT_NOT_THE_NODE
    assert f"most recently {five.snapshot}/sitecustomize.py: delete it" in capsys.readouterr().err
    assert states(five) == ["pending"] * 5
