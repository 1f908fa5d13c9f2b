"""If a run is stopped, killed or overtaken, logs and checkpoints stay consistent."""

import json
import os
import random
import signal

import pytest
import torch

from experiments.harness.folder import RunFolder
from experiments.harness.ownership import LostOwnershipError
from experiments.harness.spec import RunSpec
from tests.harness.stirring import RESULT, SPEC, WORK, X, claim, contents, path_of, run_to, steps
from zia_core.checkpoint import read_checkpoint, write_checkpoint
from zia_core.errors import ZiaError


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
    seals = [json.loads(files.pop("files.json")) for files in (straight, killed)]
    assert seals[0].pop("status.json") != seals[1].pop("status.json")
    assert seals[0] == seals[1]
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


def test_an_overtaken_owner_fails_at_its_next_write(tmp_path):
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


@pytest.mark.parametrize("name", ["metrics.jsonl", "timing.jsonl"])
def test_a_log_that_changed_before_the_checkpoint_is_noticed(tmp_path, name):
    run_to(tmp_path, 4, checkpoints=[2, 4])
    path = path_of(tmp_path) / name
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b'{"step":2}', b'{"step":7}'))
    before = contents(path_of(tmp_path))
    with claim(tmp_path) as folder, pytest.raises(ZiaError, match=f"{name} is not as it was"):
        folder.load_checkpoint()
    after = contents(path_of(tmp_path))
    before.pop("status.json")
    after.pop("status.json")
    assert after == before
    path.write_bytes(whole)
    with claim(tmp_path) as folder:
        assert folder.load_checkpoint()[0] == 4


def test_a_checkpoint_that_is_older_than_the_hashes_is_taken(tmp_path):
    run_to(tmp_path, 2, checkpoints=[2])
    (path,) = (path_of(tmp_path) / "checkpoint").iterdir()
    tensors, place = read_checkpoint(path)
    assert set(place.pop("log_sha256")) == {"metrics.jsonl", "timing.jsonl"}
    write_checkpoint(path, tensors, place)
    run_to(tmp_path, 3, checkpoints=[3])
    assert steps(tmp_path) == [1, 2, 3]
