"""Tables are made once, by the last worker, even if another one died making them."""

import json
from collections.abc import Iterator
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from experiments.dispatch import final_report
from experiments.dispatch.in_process import run_one
from experiments.dispatch.submission import Submission
from experiments.harness import registry
from experiments.harness.ownership import Ownership
from experiments.harness.process_identity import Process
from tests.dispatch.stand_ins import submission_in
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture
def finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Submission:
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.setattr(final_report, "STALE_AFTER_S", 0.3)

    def make(runs: Path, out: Path) -> Iterator[str]:
        (tmp_path / "made").open("a").write("x")
        yield "tables"

    monkeypatch.setattr(final_report, "make", make)
    submitted = submission_in(tmp_path, "toy")
    assert not final_report.make_if_finished(submitted), "runs are missing"
    for spec in toy.EXPERIMENT.plan("mini", "cpu"):
        run_one(spec, submitted.runs_root)
    return submitted


def test_a_lock_that_a_dead_node_left_is_taken_over(finished: Submission, tmp_path: Path) -> None:
    owners = finished.folder / final_report.REPORT / "owner"
    owners.mkdir(parents=True)
    elsewhere = replace(Process.current(), boot_id="the dead node's")
    (owners / "000001.json").write_text(json.dumps({**asdict(elsewhere), "beat_s": 0.01}))
    (owners / "000001.beat").write_text("7")
    assert final_report.make_if_finished(finished)
    assert final_report.make_if_finished(finished)
    assert (tmp_path / "made").read_text() == "x"


def test_a_worker_that_is_at_it_is_left_alone(finished: Submission, tmp_path: Path) -> None:
    owner = Ownership.claim(finished.folder / final_report.REPORT, stale_after_s=0.3)
    assert owner is not None
    assert not final_report.make_if_finished(finished)
    owner.release()
    assert not (tmp_path / "made").exists()
    assert final_report.make_if_finished(finished)


def test_nothing_is_made_where_something_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "runs").mkdir()
    out = tmp_path / "out"
    out.mkdir()
    (out / "figures").write_text("a file")
    with pytest.raises(ZiaError, match="figures"):
        list(final_report.make(tmp_path / "runs", out))
    assert [path.name for path in out.iterdir()] == ["figures"]
