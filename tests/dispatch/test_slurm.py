"""Each missing run is submitted to Slurm once, with its resources."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch import slurm, submission
from experiments.dispatch.cluster_file import Cluster
from experiments.dispatch.in_process import run_one
from experiments.dispatch.worker import name_of
from experiments.harness import registry
from tests.dispatch.stand_ins import QUICK, StandIns, queue, request_in, submit
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture(autouse=True)
def _only_toy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)


def test_nothing_is_submitted_twice(
    tmp_path: Path, stand_ins: StandIns, capsys: pytest.CaptureFixture[str]
) -> None:
    run_one(toy.spec(), tmp_path / "runs")
    first = submit(tmp_path)
    assert first is not None
    assert [len(group.runs) for group in first.groups] == [2]
    assert first.groups[0].jobs == ("71_0", "71_1")
    assert submission.load(first.folder).groups[0].jobs == first.groups[0].jobs
    assert "2 runs: 2 workers, 2 at a time, each 4 CPUs, 4 GB, 5 min, job 71" in (
        capsys.readouterr().out
    )

    stand_ins.answer("squeue", queue(first))
    assert submit(tmp_path) is None
    said = capsys.readouterr().out
    assert said == f"there already: submission {first.name}: 2 runs, job 71: 2 PENDING (Priority)\n"
    assert len(stand_ins.calls("sbatch")) == 1

    # Killed between sbatch and writing its answer down: the jobs are found by their name.
    first.with_group(0, jobs=()).write()
    assert submit(tmp_path) is None

    stand_ins.answer("squeue", queue())
    run_one(toy.spec(seed=1), tmp_path / "runs")
    second = submit(tmp_path)
    assert second is not None
    assert second.groups[0].runs == (name_of(toy.spec("add-twice", "product")),)
    assert second.groups[0].workers == 1
    assert second.snapshot == first.snapshot


def test_runs_that_need_different_things_are_submitted_apart(
    tmp_path: Path, stand_ins: StandIns, monkeypatch: pytest.MonkeyPatch
) -> None:
    large = replace(toy.spec(seed=5), backbone="toys/large")
    plan = [toy.spec(), toy.spec(seed=1), large]
    changed = replace(toy.EXPERIMENT, plan=lambda profile, device: plan)
    monkeypatch.setattr(registry, "experiments", lambda: {"toy": changed})
    submitted = submit(tmp_path, Cluster(QUICK, by_backbone={"toys/large": {"mem_gb": 99.0}}))
    assert submitted is not None
    assert [list(group.runs) for group in submitted.groups] == [
        [name_of(spec) for spec in plan[:2]],
        [name_of(large)],
    ]
    assert [group.resources["mem_gb"] for group in submitted.groups] == [4.0, 99.0]
    assert len(stand_ins.calls("sbatch")) == 2


def test_a_refusal_is_one_sentence_and_the_runs_can_be_submitted_again(
    tmp_path: Path, stand_ins: StandIns
) -> None:
    stand_ins.refuse("sbatch", "sbatch: error: invalid partition specified: gpu")
    with pytest.raises(ZiaError, match=r"Slurm refused the jobs .* invalid partition") as raised:
        submit(tmp_path)
    assert len(str(raised.value).splitlines()) == 1
    (stand_ins.folder / "sbatch.refusal").unlink()
    assert submit(tmp_path) is not None
    stand_ins.refuse("squeue", "slurm_load_jobs error: Unable to contact slurm controller")
    with pytest.raises(ZiaError, match="squeue failed: slurm_load_jobs error: Unable to contact"):
        submit(tmp_path)


def test_without_slurm_submitting_fails_but_a_dry_run_shows_scripts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ZiaError, match="there is no squeue here: is this a machine of the cluster"):
        submit(tmp_path)
    shown = "\n".join(slurm.dry_run(request_in(tmp_path), Cluster(QUICK)))
    assert f"  {name_of(toy.spec())}\n" in shown
    assert "#SBATCH --array=0-1%2\n" in shown
    assert "#SBATCH --signal=USR2@120\n" in shown
    assert shown.endswith("3 runs would be submitted, 0 are queued already")
    assert not list((tmp_path / "runs").glob("snapshots/*"))
    assert not list((tmp_path / "runs").glob("submissions/*-*"))
