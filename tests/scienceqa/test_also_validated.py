"""A run that scores the validation questions beside the test questions stands for two."""

from pathlib import Path

import pytest

from experiments.dispatch.in_process import run_one
from experiments.harness import stored
from experiments.harness.archive import RunPath
from experiments.harness.verify import verify_run
from experiments.scienceqa.evaluate import BASELINES, SCORES
from tests.scienceqa import world


def done(root: Path, **changes: object) -> stored.StoredRun:
    spec = world.spec("zero-init", **changes)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    return stored.load(root / "runs" / spec.experiment / spec.folder_name)


def without_time(run: RunPath) -> list[dict[str, object]]:
    return [dict(record) for record in stored.metrics(run)]


def test_its_scores_are_those_of_the_same_run_on_each_of_the_two(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    world.prepare(tmp_path, monkeypatch)
    both, test, val = (
        done(tmp_path, **changes)
        for changes in ({"also_validated": True}, {}, {"evaluated_on": "val"})
    )
    assert without_time(both.path) == without_time(test.path) == without_time(val.path)
    for name in (*SCORES, *BASELINES):
        assert both.result[f"val_{name}"] == val.result[name], name
        assert both.result[name] == test.result[name], name
        assert f"val_{name}" not in test.result
    assert both.result["adapter_sha256"] == val.result["adapter_sha256"]
    findings = {finding.check: finding for finding in verify_run(both.path)}
    assert {finding.outcome for finding in findings.values()} == {"ok"}
    assert "val_acc_average" in findings["metrics"].detail
