"""The files of a run are whole or missing."""

import gzip
import random

import pytest
import torch

from experiments.harness import stored
from tests.harness.stirring import RESULT, claim, contents, path_of, run_to, steps
from zia_core.errors import ZiaError


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
            pytest.raises(ValueError, match="is not a file name"),
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


def test_a_number_that_json_lacks_never_reaches_the_metrics(tmp_path):
    with claim(tmp_path) as folder:
        with pytest.raises(ZiaError, match="cannot be stored as JSON"):
            folder.metrics({"step": 1, "perplexity": float("inf")})
        with pytest.raises(ValueError, match="needs an integer 'step'"):
            folder.metrics({"loss": 1.0})
        folder.metrics({"step": 1})
    assert steps(tmp_path) == [1]


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
