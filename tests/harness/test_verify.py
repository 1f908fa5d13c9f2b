import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from experiments.dispatch.in_process import run_one
from experiments.harness import archive, registry, stored
from experiments.harness.archive import RunPath
from experiments.harness.publish import publish
from experiments.harness.verify import report, verify
from tests.harness import toy
from zia_core.errors import ZiaError


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of a finished run of the toy, with the references beside it."""
    monkeypatch.setattr(registry, "experiments", toy.only_toy)
    monkeypatch.setenv(toy.REFERENCES, "there")
    run_one(toy.spec(), tmp_path / "runs")
    return tmp_path / "runs" / "toy" / toy.spec().folder_name


def outcomes(path: RunPath) -> dict[str, str]:
    return {finding.check: finding.outcome for finding in verify(path)}


CHECKS = ("identity", "status", "log", "seal", "result", "adapter", "metrics")


def test_a_finished_run_passes(run: Path) -> None:
    assert outcomes(run) == dict.fromkeys(CHECKS, "ok")
    assert report(verify(run.parent.parent)).splitlines() == [
        f"toy/{run.name}",
        f"  identity  ok          {toy.spec().identity}",
        "  status    ok          done",
        "  log       ok          6 steps",
        "  seal      ok          7 files",
        "  result    ok          2 fields",
        "  adapter   ok          none was made",
        "  metrics   ok          score",
        "checks: 7 ok",
    ]


def test_without_references_the_metrics_need_data(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(toy.REFERENCES)
    assert outcomes(run) == dict.fromkeys(CHECKS, "ok") | {"metrics": "needs data"}
    assert "  metrics   needs data  set $ZIA_TOY_REFERENCES\n" in report(verify(run))


def test_an_unfinished_run_is_checked_as_far_as_it_is(run: Path) -> None:
    run_one(toy.spec(stop_at=3), run.parent.parent)
    unfinished = run.parent / toy.spec(stop_at=3).folder_name
    assert outcomes(unfinished) == dict.fromkeys(CHECKS[:4], "ok")


def edit(name: str, change: Callable[[dict], object]) -> Callable[[Path], object]:
    """A change to a JSON file of the run folder."""

    def apply(run: Path) -> None:
        value = json.loads((run / name).read_text())
        change(value)
        (run / name).write_text(json.dumps(value))

    return apply


def edit_lines(change: Callable[[list[str]], list[str]]) -> Callable[[Path], object]:
    """A change to the lines of metrics.jsonl: first the evaluation at step 0, then six steps."""

    def apply(run: Path) -> None:
        path = run / stored.METRICS
        path.write_text("".join(change(path.read_text().splitlines(keepends=True))))

    return apply


@pytest.mark.parametrize(
    ("tamper", "check", "said"),
    [
        (edit("config.json", lambda c: c.update(seed=4)), "identity", "describes the run toy/add"),
        (edit("config.json", lambda c: c.update(colour=1)), "identity", "'colour'"),
        (edit("config.json", lambda c: c.update(experiment="b")), "identity", "experiment 'b'"),
        (edit("status.json", lambda s: s.update(state="great")), "status", "status.json"),
        (edit("status.json", lambda s: s.update(state="failed")), "status", "a result.json"),
        (lambda run: (run / "result.json").unlink(), "status", "no result.json"),
        (edit_lines(lambda lines: lines[:3] + lines[4:]), "log", "step 3 is missing"),
        (edit_lines(lambda lines: lines[:-1]), "log", "has 5 steps, but the finished run has 6"),
        (edit_lines(lambda lines: [*lines, lines[0]]), "log", "line 8: step 0 after step 6"),
        (edit_lines(lambda lines: [*lines[:2], "{\n", *lines[2:]]), "log", "line 3"),
        (edit("result.json", lambda r: r.pop("steps")), "result", "lacks steps"),
        (edit("result.json", lambda r: r.update(score="0.75")), "result", "score"),
        (
            edit("result.json", lambda r: r.update(score=0.7500001)),
            "metrics",
            "score is 0.7500001, but the predictions give 0.75",
        ),
        (lambda run: (run / "predictions.jsonl.gz").write_bytes(b"\x1f\x8b"), "metrics", "damaged"),
    ],
)
def test_every_tampering_is_named(
    run: Path, tamper: Callable[[Path], object], check: str, said: str
) -> None:
    tamper(run)
    failed = {f.check: f.detail for f in verify(run) if f.outcome == "failed"}
    assert said in failed[check]
    assert f"  {check:<10}failed      " in report(verify(run))


def test_a_renamed_folder_is_named(run: Path) -> None:
    moved = run.rename(run.with_name(run.name[:-1] + ("0" if run.name[-1] != "0" else "1")))
    assert outcomes(moved)["identity"] == "failed"


def add(files: dict[str, bytes]) -> None:
    files["more.json"] = b"{}"


@pytest.mark.parametrize(
    ("tamper", "check", "said"),
    [
        (lambda files: files.update({"result.json": b"{}"}), "seal", "result.json was changed sin"),
        (lambda files: files.pop("environment.json"), "seal", "environment.json is missing"),
        (lambda files: files.pop("files.json"), "seal", "files.json, the run's seal, is missing"),
        (add, "seal", "more.json is not listed in files.json: take it away"),
        (lambda files: files.update({"predictions.jsonl": b"[]\n"}), "seal", "was changed since"),
        (lambda files: files.pop("metrics.jsonl"), "log", "metrics.jsonl is missing"),
    ],
)
def test_published_files_are_exactly_those_that_were_published(
    run: Path, tmp_path: Path, tamper: Callable[[dict[str, bytes]], object], check: str, said: str
) -> None:
    """Also in an archive that is whole, by its checksums."""
    (published,) = publish(run.parent.parent, tmp_path / "published")
    assert set(outcomes(published).values()) <= {"ok", "needs data", "absent"}
    files = published.contents()
    tamper(files)
    path = published.archive.path
    archive.write(path, "toy", "mini", {published.name: files})
    for named in (path, path.parent, Path(str(published))):
        failed = {f.check: f.detail for f in verify(named) if f.outcome == "failed"}
        assert said in failed[check]
        assert failed[check].startswith(f"{path}/{published.name}/")


def test_an_experiment_may_keep_no_predictions(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    without = {"toy": replace(toy.EXPERIMENT, rescore=None)}
    monkeypatch.setattr(registry, "experiments", lambda: without)
    assert outcomes(run)["metrics"] == "ok"


def test_a_folder_without_runs_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="there is no run in"):
        verify(tmp_path)


def test_a_damaged_archive_hides_no_other(run: Path, tmp_path: Path) -> None:
    published = tmp_path / "published"
    publish(run.parent.parent, published)
    (published / "zebra-mini.zip").write_bytes(b"PK\x03\x04")
    findings = verify(published)
    assert {finding.outcome for finding in findings[:-1]} <= {"ok", "needs data", "absent"}
    assert (findings[-1].run, findings[-1].outcome) == ("zebra-mini.zip", "failed")
    assert findings[-1].detail.startswith(f"{published}/zebra-mini.zip: ")
    assert [finding.outcome for finding in verify(published / "zebra-mini.zip")] == ["failed"]
