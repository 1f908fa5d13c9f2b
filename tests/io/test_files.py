import os
import stat
from pathlib import Path

import pytest

from experiments.io.files import (
    AppendLog,
    canonical_json,
    read_json,
    read_lines,
    write_json_atomic,
)
from zia_core.errors import ZiaError


def test_canonical_json_is_one_text():
    assert canonical_json({"b": (1, 2.5), "a": "é"}) == '{"a":"\\u00e9","b":[1,2.5]}'
    assert canonical_json({"a": 1, "b": 2}) == canonical_json({"b": 2, "a": 1})


@pytest.mark.parametrize("value", [float("nan"), [float("inf")], {"a": object()}, {"a": {1, 2}}])
def test_canonical_json_refuses_what_json_lacks(value):
    with pytest.raises(ZiaError, match="cannot be stored as JSON"):
        canonical_json(value)


def test_json_round_trip(tmp_path):
    write_json_atomic(tmp_path / "a.json", {"a": [1, None, 0.1]})
    assert read_json(tmp_path / "a.json") == {"a": [1, None, 0.1]}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is missing"),
        (b"", "not valid JSON"),
        (b'{"a": 1', "not valid JSON"),
        (b"\xff\xfe{", "not valid JSON"),
        (b"[1]", "must hold a JSON object, not list"),
    ],
)
def test_read_json_names_the_file(tmp_path, content, message):
    path = tmp_path / "status.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ZiaError, match=message) as caught:
        read_json(path)
    assert str(path) in str(caught.value)


def test_a_log_gets_the_mode_that_the_umask_grants(tmp_path):
    before = os.umask(0o002)
    try:
        AppendLog(tmp_path / "log", b"", staging=tmp_path).close()
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "log").stat().st_mode) == 0o664


def test_a_log_that_cannot_be_moved_into_place_leaves_no_descriptor(tmp_path):
    (tmp_path / "log").mkdir()
    before = len(list(Path("/proc/self/fd").iterdir()))
    with pytest.raises(ZiaError):
        AppendLog(tmp_path / "log", b"", staging=tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


def test_a_log_holds_every_appended_record(tmp_path):
    log = AppendLog(tmp_path / "log", b"", staging=tmp_path)
    log.append({"step": 1, "loss": 2.5})
    log.append({"step": 2})
    assert (tmp_path / "log").read_bytes() == b'{"loss":2.5,"step":1}\n{"step":2}\n'
    assert log.size == 33
    log.close()
    log = AppendLog(tmp_path / "log", b'{"step":1}\n', staging=tmp_path)
    log.append({"step": 2})
    log.close()
    assert read_lines(tmp_path / "log") == [{"step": 1}, {"step": 2}]


def test_whoever_holds_the_old_log_writes_into_nothing(tmp_path):
    orphan = AppendLog(tmp_path / "log", b"", staging=tmp_path)
    owner = AppendLog(tmp_path / "log", b"", staging=tmp_path)
    orphan.append({"by": "orphan"})
    owner.append({"by": "owner"})
    assert read_lines(tmp_path / "log") == [{"by": "owner"}]
    orphan.close()
    owner.close()


def test_a_full_disk_leaves_whole_lines_and_the_log_goes_on_afterwards(tmp_path, file_size_limit):
    log = AppendLog(tmp_path / "log", b"", staging=tmp_path)
    log.append({"step": 1})
    with file_size_limit(1000), pytest.raises(ZiaError, match=r"cannot write .*log"):
        log.append({"text": "x" * 2000})
    assert (tmp_path / "log").read_bytes() == b'{"step":1}\n'
    log.append({"step": 2})
    log.close()
    assert read_lines(tmp_path / "log") == [{"step": 1}, {"step": 2}]


def test_a_torn_last_line_is_not_read_and_a_damaged_one_is_named(tmp_path):
    path = tmp_path / "metrics.jsonl"
    assert read_lines(path) == []
    path.write_text('{"step":1}\n{"step":2}\n{"ste')
    assert read_lines(path) == [{"step": 1}, {"step": 2}]
    path.write_text('{"step":1}\n{"ste\n{"step":3}\n')
    with pytest.raises(ZiaError, match=r"metrics\.jsonl, line 2"):
        read_lines(path)


def test_two_records_on_one_line_are_damage(tmp_path):
    path = tmp_path / "log"
    path.write_text('{"step":1}\n{"step":2},{"step":3}\n')
    with pytest.raises(ZiaError, match="line 2 is not valid JSON"):
        read_lines(path)
