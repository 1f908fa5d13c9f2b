"""What leaves a claim open: failed seeds, other data or weights, tasks that may not count."""

import json
from pathlib import Path
from typing import Any

import pytest

from experiments.report.claims import definition
from experiments.report.claims.results import results_of
from experiments.report.runs import read_runs
from tests.report.claims.test_claims import NOISE, small_tasks_count, verdicts
from tests.report.run_folders import ENVIRONMENT, write_run, write_vtab

CLAIM = "vpt-small"


def write_lead(root: Path, **ours: Any) -> None:
    """Five seeds in which zero-init is ahead of VPT by about a point."""
    small_tasks_count(root)
    for seed, noise in enumerate(NOISE):
        write_vtab(root, "zero-init", "cifar10", seed, 61 + noise, **ours)
        environment = ENVIRONMENT | {"data": {"cifar10": "d", "images": "b"}}
        environment |= {"weights": {"small-vit": "w"}}
        write_vtab(root, "vpt-deep", "cifar10", seed, 60, environment=environment)


@pytest.mark.parametrize(
    ("recorded", "verdict"),
    [
        ({}, "holds"),  # older runs record neither
        ({"data": {"cifar10": "d"}, "weights": {"small-vit": "w", "encoder": "e"}}, "holds"),
        ({"data": {"cifar10": "d", "images": "a"}, "weights": {"small-vit": "w"}}, "holds"),
        ({"data": {"cifar10": "other"}}, "inconclusive"),
        ({"weights": {"small-vit": "other"}}, "inconclusive"),
    ],
)
def test_methods_are_compared_on_the_same_data_and_weights(
    tmp_path: Path, recorded: dict[str, Any], verdict: str
) -> None:
    write_lead(tmp_path, environment=ENVIRONMENT | recorded)
    found, evidence = verdicts(tmp_path)[CLAIM]
    assert found == verdict
    assert ("zero-init and vpt-deep have different data or weights" in evidence) == (
        verdict == "inconclusive"
    )


@pytest.mark.parametrize(("scored", "verdict"), [("a", "holds"), ("b", "inconclusive")])
def test_data_that_older_runs_name_twice_are_the_same(
    tmp_path: Path, scored: str, verdict: str
) -> None:
    small_tasks_count(tmp_path)
    once = {"val": "a"}
    for seed, noise in enumerate(NOISE):
        data = once if seed else once | {"cifar10-scored": scored}
        environment = ENVIRONMENT | {"data": data}
        write_vtab(tmp_path, "zero-init", "cifar10", seed, 61 + noise, environment=environment)
        write_vtab(tmp_path, "vpt-deep", "cifar10", seed, 60)
    assert verdicts(tmp_path)[CLAIM][0] == verdict


def test_a_seed_that_failed_leaves_the_claim_open(tmp_path: Path) -> None:
    write_lead(tmp_path)
    assert verdicts(tmp_path)[CLAIM][0] == "holds"
    write_vtab(tmp_path, "zero-init", "cifar10", 5, 0, state="failed", reason="not finite")
    found, evidence = verdicts(tmp_path)[CLAIM]
    assert found == "inconclusive"
    assert "1 run of zero-init failed" in evidence


def test_a_task_that_may_count_leaves_the_claim_open(tmp_path: Path) -> None:
    write_lead(tmp_path)
    for seed, noise in enumerate(NOISE):
        write_vtab(tmp_path, "zero-init", "caltech101_96", seed, 10 + noise)
        write_vtab(tmp_path, "vpt-deep", "caltech101_96", seed, 60)
    write_vtab(tmp_path, "linear", "caltech101_96", 0, 50)
    found, evidence = verdicts(tmp_path)[CLAIM]
    assert found == "inconclusive"
    assert "not known yet whether caltech101_96 counts" in evidence
    write_vtab(tmp_path, "pixel-probe", "caltech101_96", 0, 20)
    assert verdicts(tmp_path)[CLAIM][0] == "does not hold"


def test_losses_that_are_not_finite_are_no_training(tmp_path: Path) -> None:
    nothing = {"train_loss_first": None, "train_loss_last": None}
    write_lead(tmp_path, result=nothing)
    assert verdicts(tmp_path)[CLAIM][0] == "inconclusive"


def test_a_cause_may_read_a_field_that_no_part_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stored = json.loads(definition.FILE.read_text())
    [claim] = [one for one in stored["claims"] if one["id"] == "lora-alpaca"]
    claim["parts"], claim["cause"] = claim["parts"][:1], {
        "question": "Is it the perplexity?",
        "part": claim["parts"][0] | {"field": "val_ppl", "label": "perplexity"},
    }  # fmt: skip
    path = tmp_path / "claims.json"
    path.write_text(json.dumps({"claims": [claim]}))
    monkeypatch.setattr(definition.read_claims, "__defaults__", (path,))
    for seed, noise in enumerate(NOISE):
        for method, loss in (("zero-init", 2.0), ("lora", 1.0)):
            result = {"val_loss": loss + noise / 10, "val_ppl": 7.0 + noise}
            write_run(tmp_path / "runs", method, seed, task="instruct", result=result)
    [result] = [one for one in results_of(read_runs([tmp_path / "runs"])) if one.profile == "small"]
    assert "Is it the perplexity? yes: perplexity: +0.000" in result.finding.evidence
