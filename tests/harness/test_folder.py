import gzip
import json
import os
import random
import signal
from dataclasses import dataclass

import pytest
import torch

from experiments.harness import stored
from experiments.harness.folder import RunFolder
from experiments.harness.ownership import LostOwnershipError
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError

# A run in small: five numbers that are stirred 30 times, a checkpoint every third time.
WORK = """
import os, signal, sys
from dataclasses import dataclass
from pathlib import Path
import torch
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec

@dataclass(frozen=True)
class Settings:
    steps: int = 30

SPEC = RunSpec("toy", 1, "stirring", "spoon", "none", "none", "mini", 0, Settings())
RESULT = {"total": float, "note": str | None}

def claim(runs):
    return RunFolder.claim(Path(runs), SPEC, RESULT, stale_after_s=0.3, wait=True)

def work(runs):
    with claim(runs) as folder:
        folder.write_environment({"git": {"sha": "abc"}, "data": {"toy": "1"}})
        step, tensors, state = folder.load_checkpoint() or (0, {"x": torch.arange(5.0)}, {"sum": 0})
        x, total = tensors["x"], state["sum"]
        while step < SPEC.settings.steps:
            x, step = torch.sin(x + step) * 3, step + 1
            total += x.sum().item()
            folder.metrics({"step": step, "loss": x.sum().item()})
            folder.timing({"step": step, "seconds": 0.1})
            folder.progress(step=step, total=30)
            print(step)
            if step % 3 == 0:
                folder.save_checkpoint(step, {"x": x}, {"sum": total})
        folder.write_predictions({"id": i, "output": v} for i, v in enumerate(x.tolist()))
        with folder.writing("adapter.safetensors") as path:
            path.write_bytes(x.numpy().tobytes())
        folder.write_result({"total": total, "note": None})
        folder.set_status("done")
"""


@dataclass(frozen=True)
class Settings:
    steps: int = 30


SPEC = RunSpec("toy", 1, "stirring", "spoon", "none", "none", "mini", 0, Settings())
RESULT = {"total": float, "note": str | None}
X = {"x": torch.arange(3.0)}


def claim(runs, spec=SPEC):
    return RunFolder.claim(runs, spec, RESULT)


def path_of(runs):
    return runs / "toy" / SPEC.folder_name


def contents(folder):
    """Every file of a run folder but those that tell who worked on it, as bytes."""
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and "owner" not in path.parts
    }


def run_to(runs, step, checkpoints=()):
    """Begin the run and stop after `step`, with checkpoints after the steps named."""
    with claim(runs) as folder:
        done = folder.load_checkpoint()
        for i in range(done[0] + 1 if done else 1, step + 1):
            folder.metrics({"step": i})
            folder.timing({"step": i})
            if i in checkpoints:
                folder.save_checkpoint(i, X, {"at": i})


def steps(runs, name="metrics.jsonl"):
    return [json.loads(line)["step"] for line in (path_of(runs) / name).read_text().splitlines()]


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


def test_killed_anywhere_and_resumed_is_never_interrupted(tmp_path, start_child):
    namespace = {"__name__": "toy"}
    exec(WORK, namespace)
    namespace["work"](tmp_path / "straight")
    generator = random.Random(3)
    for attempt in range(3):
        child = start_child(WORK + "work(sys.argv[1])", tmp_path / "killed")
        first = int(child.stdout.readline())
        assert first == 1 or attempt > 0
        for _ in range(generator.randint(2, 9)):
            child.stdout.readline()
        child.kill()
        child.wait()
    child = start_child(WORK + "work(sys.argv[1])", tmp_path / "killed")
    resumed_at = int(child.stdout.readline())
    assert resumed_at > 1
    child.communicate()
    straight, killed = (contents(path_of(tmp_path / name)) for name in ("straight", "killed"))
    status = json.loads(killed.pop("status.json"))
    straight.pop("status.json")
    assert killed == straight
    assert [a["end"] for a in status["attempts"]] == ["lost", "lost", "lost", "done"]


def test_nothing_that_an_overtaken_process_writes_arrives(tmp_path, start_child):
    program = """
folder = claim(sys.argv[1])
for step in (1, 2, 3):
    folder.metrics({"step": step})
    folder.timing({"step": step})
    if step == 2:
        folder.save_checkpoint(2, {"x": torch.ones(3)}, {})
print("stop me")
os.kill(os.getpid(), signal.SIGSTOP)

def late_writes():
    yield lambda: folder.metrics({"step": 4, "by": "orphan"})
    yield lambda: folder.timing({"step": 4, "by": "orphan"})
    yield lambda: folder.save_checkpoint(4, {"x": torch.zeros(3)}, {})
    yield lambda: folder.write_result({"total": 0.0, "note": "orphan"})
    yield lambda: folder.write_predictions([{"id": "orphan"}])
    yield lambda: folder.write_environment({"git": None})
    yield lambda: folder.set_status("failed", "orphan")

def try_all():
    for write in late_writes():
        try:
            write()
            print("written")
        except Exception as error:
            print(type(error).__name__)

try_all()
folder._ownership.check = lambda: None  # as if each check had come just before the takeover
try_all()
folder.__exit__(None, None, None)
"""
    child = start_child(WORK + program, tmp_path)
    assert child.stdout.readline() == "stop me\n"
    os.waitid(os.P_PID, child.pid, os.WSTOPPED | os.WNOWAIT)
    assert claim(tmp_path) is None, "a stopped process still exists"
    with RunFolder.claim(tmp_path, SPEC, RESULT, stale_after_s=0.3, wait=True) as folder:
        assert folder.load_checkpoint()[0] == 2
        folder.metrics({"step": 3, "by": "owner"})
        before = contents(folder.path)
        child.send_signal(signal.SIGCONT)
        said = child.communicate()[0].split()
        assert contents(folder.path) == before
        folder.metrics({"step": 4, "by": "owner"})
    assert said[:7] == ["LostOwnershipError"] * 7
    # Unchecked, the two appends went into files without a name, and every rename failed.
    assert said[7:] == ["written"] * 2 + ["ZiaError"] * 5
    assert steps(tmp_path) == [1, 2, 3, 4]


def test_an_owner_that_was_overtaken_is_told_at_its_next_write(tmp_path):
    with claim(tmp_path) as folder:
        folder.metrics({"step": 1})
        (folder.path / "owner" / "000002.json").write_text("{}")
        for write in (
            lambda: folder.metrics({"step": 2}),
            lambda: folder.save_checkpoint(2, X, {}),
            lambda: folder.set_status("failed"),
            lambda: folder.write_result({"total": 1.0, "note": None}),
        ):
            with pytest.raises(LostOwnershipError, match="owner number 2"):
                write()
    assert steps(tmp_path) == [1]


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    run_to(tmp_path, 5, checkpoints=[2, 4])
    with (path_of(tmp_path) / "metrics.jsonl").open("a") as file:
        file.write('{"step":6}\n{"st')  # torn: killed in the middle of a line
    with claim(tmp_path) as folder:
        step, tensors, state = folder.load_checkpoint()
        assert (step, state) == (4, {"at": 4})
        assert torch.equal(tensors["x"], X["x"])
        assert steps(tmp_path) == steps(tmp_path, "timing.jsonl") == [1, 2, 3, 4]
        folder.metrics({"step": 5})
    assert steps(tmp_path) == [1, 2, 3, 4, 5]


def test_lines_of_the_checkpoints_own_step_are_neither_lost_nor_repeated(tmp_path):
    with claim(tmp_path) as folder:
        folder.metrics({"step": 1})
        folder.metrics({"step": 1, "eval": {"loss": 2}})
        folder.save_checkpoint(1, X, {})
        folder.metrics({"step": 1, "eval": {"loss": 3}})  # after the checkpoint: will come again
    with claim(tmp_path) as folder:
        folder.load_checkpoint()
    expected = '{"step":1}\n{"eval":{"loss":2},"step":1}\n'
    assert (folder.path / "metrics.jsonl").read_text() == expected


def test_without_a_checkpoint_a_run_begins_with_empty_logs(tmp_path):
    run_to(tmp_path, 3)
    with claim(tmp_path) as folder:
        assert folder.load_checkpoint() is None
        folder.metrics({"step": 1})
    assert steps(tmp_path) == [1]
    with claim(tmp_path) as folder:
        folder.metrics({"step": 7})  # a run that never asks for a checkpoint
    assert steps(tmp_path) == [7]


def damage(path):
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def checkpoints(runs):
    return sorted(p.name for p in (path_of(runs) / "checkpoint").iterdir())


def test_the_two_newest_checkpoints_are_kept(tmp_path):
    run_to(tmp_path, 4, checkpoints=[1, 2, 3])
    assert checkpoints(tmp_path) == ["step-00000002.safetensors", "step-00000003.safetensors"]


def test_a_damaged_newest_checkpoint_gives_way_to_the_one_before(tmp_path):
    run_to(tmp_path, 5, checkpoints=[2, 4])
    damage(path_of(tmp_path) / "checkpoint" / "step-00000004.safetensors")
    with claim(tmp_path) as folder:
        assert folder.load_checkpoint()[0] == 2
        assert steps(tmp_path) == [1, 2]
        folder.metrics({"step": 3})
        folder.save_checkpoint(3, X, {})
    assert checkpoints(tmp_path) == ["step-00000002.safetensors", "step-00000003.safetensors"]


def test_with_all_checkpoints_damaged_a_run_does_not_begin_again(tmp_path):
    run_to(tmp_path, 5, checkpoints=[2, 4])
    for path in (path_of(tmp_path) / "checkpoint").iterdir():
        damage(path)
    before = contents(path_of(tmp_path))
    with (
        claim(tmp_path) as folder,
        pytest.raises(ZiaError, match=r"no checkpoint in .* can be read .*delete that folder"),
    ):
        folder.load_checkpoint()
    after = contents(path_of(tmp_path))
    assert {k: v for k, v in after.items() if k != "status.json"} == {
        k: v for k, v in before.items() if k != "status.json"
    }


def test_the_checkpoint_of_another_run_is_refused(tmp_path):
    run_to(tmp_path / "a", 2, checkpoints=[2])
    other = RunSpec(**{**vars(SPEC), "seed": 1})
    with claim(tmp_path / "b", other) as folder:
        (folder.path / "checkpoint").mkdir()
        name = "checkpoint/step-00000002.safetensors"
        (folder.path / name).write_bytes((path_of(tmp_path / "a") / name).read_bytes())
        with pytest.raises(
            ZiaError, match=r"step-00000002.safetensors is not a checkpoint of this"
        ):
            folder.load_checkpoint()


def test_metrics_shorter_than_the_checkpoint_says_are_refused(tmp_path):
    run_to(tmp_path, 3, checkpoints=[3])
    path = path_of(tmp_path) / "metrics.jsonl"
    path.write_text('{"step":1}\n')
    with claim(tmp_path) as folder, pytest.raises(ZiaError, match="is not as it was"):
        folder.load_checkpoint()
    assert path.read_text() == '{"step":1}\n'


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (lambda c: c["settings"].update(steps=31), "was edited: it describes the run"),
        (lambda c: c.update(seed=1), "was edited"),
        (lambda c: c.update(seed="0"), "seed must be a whole number"),
        (lambda c: c["settings"].update(speed=1), "'speed' is no setting"),
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


@pytest.mark.parametrize(
    ("result", "message"),
    [
        ({"total": 1.0}, "lacks note"),
        ({"total": "1", "note": None}, "total must be a finite number"),
        ({"total": float("nan"), "note": None}, "total must be a finite number"),
        ({"total": 1.0, "note": None, "more": float("inf")}, "cannot be stored as JSON"),
    ],
)
def test_an_invalid_result_is_not_written(tmp_path, result, message):
    with claim(tmp_path) as folder:
        with pytest.raises(ZiaError, match=message):
            folder.write_result(result)
        with pytest.raises(ZiaError, match=r"result\.json is missing"):
            folder.set_status("done")
    assert stored.load(path_of(tmp_path)).state == "running"
    assert not (path_of(tmp_path) / "result.json").exists()


def test_done_means_a_valid_result(tmp_path):
    with claim(tmp_path) as folder:
        folder.write_result({"total": 1, "note": "n"})
        folder.set_status("done")
    path = folder.path / "result.json"
    assert stored.is_done(folder.path, RESULT)
    assert not stored.is_done(folder.path, {**RESULT, "new_field": int})
    path.write_text(path.read_text()[:-4])
    assert not stored.is_done(folder.path, RESULT)
    assert not stored.is_done(tmp_path / "absent", RESULT)


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


def test_equal_predictions_are_equal_bytes(tmp_path):
    written = []
    for record in ({"id": 1, "output": "a"}, {"output": "a", "id": 1}):
        with claim(tmp_path) as folder:
            folder.write_predictions([record] * 100)
        written.append((folder.path / "predictions.jsonl.gz").read_bytes())
    assert written[0] == written[1]
    assert written[0][4:8] == b"\0\0\0\0", "no time of writing"
    assert gzip.decompress(written[0]) == b'{"id":1,"output":"a"}\n' * 100


def test_truncated_predictions_are_named(tmp_path):
    with claim(tmp_path) as folder:
        folder.write_predictions({"id": i} for i in range(100))
    path = folder.path / "predictions.jsonl.gz"
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(ZiaError, match=r"predictions\.jsonl\.gz is missing or damaged"):
        stored.load(folder.path).predictions()


def test_predictions_that_fail_halfway_leave_nothing(tmp_path):
    def records():
        yield {"id": 1}
        raise KeyboardInterrupt

    with claim(tmp_path) as folder, pytest.raises(KeyboardInterrupt):
        folder.write_predictions(records())
    assert set(contents(folder.path)) == {"config.json", "status.json"}


@pytest.mark.parametrize("name", ["../config.json", "/etc/passwd", "a/b", "..", ".", ""])
def test_a_file_outside_the_folder_is_refused(tmp_path, name):
    with claim(tmp_path) as folder:
        before = contents(tmp_path)
        with (
            pytest.raises(ValueError, match="not the name of a file"),
            folder.writing(name) as path,
        ):
            path.write_text("x")
        assert contents(tmp_path) == before


def test_a_full_disk_leaves_whole_files(tmp_path, file_size_limit):
    run_to(tmp_path, 2, checkpoints=[2])
    with claim(tmp_path) as folder:
        folder.load_checkpoint()
        before = contents(folder.path)
        with file_size_limit(2000):
            with pytest.raises(ZiaError, match=r"step-00000003\.safetensors"):
                folder.save_checkpoint(3, {"x": torch.zeros(5000)}, {})
            with pytest.raises(ZiaError, match=r"cannot write .*metrics\.jsonl"):
                folder.metrics({"step": 3, "text": "x" * 3000})
            with pytest.raises(ZiaError, match=r"cannot write .*predictions\.jsonl\.gz"):
                folder.write_predictions({"id": i, "r": random.random()} for i in range(1000))
            with pytest.raises(ZiaError, match=r"cannot write .*result\.json"):
                folder.write_result({"total": 1.0, "note": "x" * 3000})
        assert contents(folder.path) == before
        folder.metrics({"step": 3})
    assert steps(tmp_path) == [1, 2, 3]


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


@pytest.mark.parametrize(("every_s", "written"), [(0.0, {"step": 1}), (60.0, {})])
def test_a_running_runs_status_follows_its_progress(tmp_path, monkeypatch, every_s, written):
    monkeypatch.setattr("experiments.harness.folder.STATUS_EVERY_S", every_s)
    with claim(tmp_path) as folder:
        folder.progress(step=1)
        assert stored.load(folder.path).status["progress"] == written


def test_a_stop_is_asked_for_by_its_reason(tmp_path):
    with claim(tmp_path) as folder:
        assert folder.stop_requested() is None
        folder.request_stop("SIGTERM")
        assert folder.stop_requested() == "SIGTERM"


def test_a_number_that_json_lacks_never_reaches_the_metrics(tmp_path):
    with claim(tmp_path) as folder:
        with pytest.raises(ZiaError, match="cannot be stored as JSON"):
            folder.metrics({"step": 1, "perplexity": float("inf")})
        with pytest.raises(ValueError, match="needs a whole number 'step'"):
            folder.metrics({"loss": 1.0})
        folder.metrics({"step": 1})
    assert steps(tmp_path) == [1]
