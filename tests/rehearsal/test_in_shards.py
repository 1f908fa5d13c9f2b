"""A run that several GPUs train in shards is planned where a job has them, and rehearsed."""

from pathlib import Path

import pytest

from experiments.dispatch import in_process, submission
from experiments.dispatch.cluster_file import Cluster, Resources
from experiments.dispatch.code_snapshot import Code
from experiments.dispatch.submission import Request
from experiments.harness import plan, stored
from experiments.harness.spec import RunSpec
from experiments.rehearsal.places import Places
from tests.harness.test_device import Zia, zia

__all__ = ["zia"]


def full(profile: str, device: str, gpus: int) -> list[RunSpec]:
    specs = plan.planned("alpaca_llama", profile, device, gpus=gpus)
    return [spec for spec in specs if spec.method == "full"]


@pytest.mark.parametrize("profile", ["paper", "paper-rehearsal"])
def test_it_is_planned_where_a_job_has_four_gpus(profile: str) -> None:
    for number, found in (None, 1), (3, 1), (4, 4), (8, 8):
        cluster = Cluster(Resources(gpus_per_node=number))
        assert cluster.gpus_for_shards("alpaca_llama", profile, "cuda") == found
        assert bool(full(profile, "cuda", found)) == (found >= 4)
    own = Cluster(by_backbone={"llama-7b": {"gpus_per_node": 4}})
    assert own.gpus_for_shards(None, profile, "cuda") == 4
    assert own.gpus_for_shards("squad_roberta", profile, "cuda") == 1
    others = [
        s for s in plan.planned("alpaca_llama", profile, "cuda", gpus=8) if s.method != "full"
    ]
    assert plan.planned("alpaca_llama", profile, "cuda") == others


def test_it_is_shown_with_its_gpus(zia: Zia, tmp_path: Path) -> None:
    (tmp_path / "cluster.toml").write_text("gpus_per_node = 8")
    code, out, _ = zia("plan alpaca_llama --profile paper --cluster cluster.toml --device cuda")
    assert code == 0
    (line,) = [line for line in out.splitlines() if line.startswith("full instruct s0 ")]
    assert line.rstrip().endswith(" 8 x 30.6")
    assert "31 % used, 8 GPUs a run (full)" in " ".join(out.split())
    assert max(map(len, out.splitlines())) <= 80
    assert "full instruct" not in zia("plan alpaca_llama --profile paper --device cuda")[1]


def test_workers_plan_it_as_it_was_submitted(tmp_path: Path) -> None:
    places = tmp_path / "runs", tmp_path / "out"
    request = Request("alpaca_llama", "paper", "cuda", *places, gpus=4)
    described = submission.describe(request, "slurm", Code(tmp_path, {}, None), [])
    described.folder.mkdir(parents=True)
    described.write()
    again = submission.load(described.folder).request
    assert [spec.method for spec in again.specs()].count("full") == 3


def test_its_rehearsal_is_in_two_shards_stopped_and_resumed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    for variable in "ZIA_DATA", "ZIA_WEIGHTS", "HF_DATASETS_CACHE", "HF_HUB_OFFLINE":
        monkeypatch.setenv(variable, str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(repository))  # of the other rank
    (spec,) = full("paper-rehearsal", "cpu", gpus=4)
    places = Places(tmp_path / "rehearsal")
    list(places.prepare([spec], real_weights=False))
    places.use(real_weights=False)
    outcome = in_process.run_one(spec, places.runs)
    assert outcome.state == "done", outcome.reason
    run = stored.load(places.runs / spec.experiment / spec.folder_name)
    assert run.environment["ranks"] == 2
    assert [attempt["end"] for attempt in run.status["attempts"]] == ["preempted", "done"]
    assert run.result["steps"] == 2
