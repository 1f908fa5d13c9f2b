"""Run folders: who may write to them, and what they say about the run."""

import json

import pytest

from experiments.harness import stored
from experiments.harness.spec import RunSpec
from tests.harness.stirring import RESULT, SPEC, Settings, X, claim, contents, path_of, run_to
from zia_core.errors import ZiaError


def test_a_run_from_beginning_to_end(tmp_path):
    with claim(tmp_path) as folder:
        assert folder.path == path_of(tmp_path)
        assert folder.load_checkpoint() is None
        assert stored.load(folder.path).state == "running"
        folder.write_environment({"git": {"sha": "abc"}, "python": "3"})
        folder.write_environment({"data": {"a": "1"}})
        folder.metrics({"step": 1, "loss": 2.0})
        folder.timing({"step": 1, "seconds": 0.5})
        folder.save_checkpoint(1, X, {"a": [1, None]})
        folder.write_predictions([{"id": 1, "output": "é"}])
        with folder.writing("adapter.safetensors") as path:
            path.write_bytes(b"weights")
        folder.write_result({"total": 1.0, "note": None, "more": 3})
        assert not stored.is_done(folder.path, RESULT)
        folder.set_status("done")
    run = stored.load(folder.path)
    assert RunSpec.from_json(run.config, Settings) == SPEC
    assert run.environment == {"git": {"sha": "abc"}, "python": "3", "data": {"a": "1"}}
    assert run.metrics() == [{"step": 1, "loss": 2.0}]
    assert run.timing() == [{"step": 1, "seconds": 0.5}]
    assert run.predictions() == [{"id": 1, "output": "é"}]
    assert run.result == {"total": 1.0, "note": None, "more": 3}
    assert (folder.path / stored.ADAPTER).read_bytes() == b"weights"
    (attempt,) = run.status["attempts"]
    assert attempt["owner"] == 1
    assert attempt["git_sha"] == "abc"
    assert attempt["end"] == "done"
    assert attempt["ended"] >= attempt["started"]
    assert stored.is_done(folder.path, RESULT)
    assert not (folder.path / "checkpoint").exists()
    assert claim(tmp_path) is None, "running twice does nothing"
    assert [r.path for r in stored.states(tmp_path)] == [folder.path]


def test_a_run_is_worked_on_by_one(tmp_path):
    with claim(tmp_path):
        assert claim(tmp_path) is None
    with claim(tmp_path) as folder:
        folder.set_status("failed", "step 3: the loss is nan")
    status = stored.load(path_of(tmp_path)).status
    assert status["state"] == "failed"
    assert status["reason"] == "step 3: the loss is nan"
    assert [a["end"] for a in status["attempts"]] == ["lost", "failed"]


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["settings"].update(steps=31), "was edited: it describes the run"),
        (lambda c: c.update(seed=1), "was edited"),
        (lambda c: c.update(seed="0"), "seed must be a whole number"),
        (lambda c: c["settings"].update(speed=1), "'speed' is not a setting"),
        (lambda c: c.pop("task"), "lacks task"),
    ],
)
def test_an_edited_config_is_refused(tmp_path, edit, message):
    run_to(tmp_path, 1)
    path = path_of(tmp_path) / "config.json"
    config = json.loads(path.read_text())
    edit(config)
    path.write_text(json.dumps(config))
    before = contents(path_of(tmp_path))
    with pytest.raises(ZiaError, match=message) as caught:
        claim(tmp_path)
    assert str(path) in str(caught.value)
    assert contents(path_of(tmp_path)) == before


@pytest.mark.parametrize(
    "content", ["", "{", "[]", "{}", '{"state":"flying","attempts":[],"progress":{}}']
)
def test_a_corrupt_status_is_named_and_the_run_is_free_again(tmp_path, content):
    run_to(tmp_path, 1)
    path = path_of(tmp_path) / "status.json"
    path.write_text(content)
    for _ in range(2):
        with pytest.raises(ZiaError, match=r"status\.json"):
            claim(tmp_path)
    with pytest.raises(ZiaError, match=r"status\.json"):
        list(stored.states(tmp_path))
    assert not stored.is_done(path_of(tmp_path), RESULT)


def test_a_run_goes_on_only_with_the_data_it_began_with(tmp_path):
    with claim(tmp_path) as folder:
        folder.write_environment({"data": {"a.json": "1"}})
        folder.save_checkpoint(1, X, {})
    with claim(tmp_path) as folder:
        folder.write_environment({"python": "3"})
    with claim(tmp_path) as folder:
        with pytest.raises(
            ZiaError, match=r'data changed .* from {"a.json":"1"} to {"a.json":"2"}'
        ):
            folder.write_environment({"data": {"a.json": "2"}})
        folder.write_environment({"data": {"a.json": "1"}})
    assert stored.load(folder.path).environment["data"] == {"a.json": "1"}


def test_before_the_first_checkpoint_the_data_may_change(tmp_path):
    for version in ("1", "2"):
        with claim(tmp_path) as folder:
            folder.write_environment({"data": {"a.json": version}})
    assert stored.load(folder.path).environment == {"data": {"a.json": "2"}}


def test_progress_reaches_the_terminal_and_the_status(tmp_path):
    shown = []
    with claim(tmp_path) as folder:
        folder.on_progress = shown.append
        folder.progress(step=1, total=9, loss=2.5)
        folder.progress(step=2, total=9, loss=2.4)
        folder.set_status("preempted", "SIGTERM")
    assert [p["step"] for p in shown] == [1, 2]
    status = stored.load(folder.path).status
    assert status["progress"] == {"step": 2, "total": 9, "loss": 2.4}
    assert (status["state"], status["reason"]) == ("preempted", "SIGTERM")


@pytest.mark.parametrize(("every_s", "written"), [(0.0, {"step": 1, "total": 6}), (60.0, {})])
def test_a_running_runs_status_follows_its_progress(tmp_path, monkeypatch, every_s, written):
    monkeypatch.setattr("experiments.harness.folder.STATUS_EVERY_S", every_s)
    with claim(tmp_path) as folder:
        folder.progress(step=1, total=6)
        assert stored.load(folder.path).status["progress"] == written


def test_a_stop_is_asked_for_by_its_reason(tmp_path):
    with claim(tmp_path) as folder:
        assert folder.stop_requested() is None
        folder.request_stop("SIGTERM")
        assert folder.stop_requested() == "SIGTERM"
