import errno
import os
import random
import stat
from pathlib import Path

import pytest

from zia_core.errors import ZiaError
from zia_core.files import replacing, sha256_file, write_atomic


def test_a_file_gets_the_mode_that_the_umask_grants(tmp_path):
    before = os.umask(0o002)
    try:
        write_atomic(tmp_path / "file", b"x")
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o664


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path, file_size_limit):
    path = tmp_path / "result.json"
    write_atomic(path, b"old")
    with file_size_limit(1000), pytest.raises(ZiaError, match="File too large") as caught:
        write_atomic(path, b"x" * 5000)
    assert str(path) in str(caught.value)
    assert path.read_bytes() == b"old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_block_that_fails_replaces_nothing(tmp_path):
    def fail():
        with replacing(tmp_path / "a") as temporary:
            temporary.write_text("half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fail()
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_missing_is_named(tmp_path):
    with pytest.raises(ZiaError, match=r"cannot write .*absent/a: No such file"):
        write_atomic(tmp_path / "absent" / "a", b"x")


KEEP_WRITING = """
import itertools, sys
from pathlib import Path
from zia_core.files import write_atomic
for i in itertools.count():
    write_atomic(Path(sys.argv[1]), bytes([97 + i % 26]) * 300_000)
    print(i)
"""


@pytest.mark.parametrize("seed", range(3))
def test_sigkill_never_leaves_half_a_file(tmp_path, start_child, seed):
    path = tmp_path / "file"
    child = start_child(KEEP_WRITING, path)
    for _ in range(random.Random(seed).randint(2, 30)):
        child.stdout.readline()
    child.kill()
    child.wait()
    content = path.read_bytes()
    assert content == content[:1] * 300_000


def test_sha256_of_a_file(tmp_path):
    (tmp_path / "a").write_bytes(b"abc")
    assert sha256_file(tmp_path / "a").startswith("ba7816bf8f01cfea")
    with pytest.raises(ZiaError, match="absent: No such file"):
        sha256_file(Path(tmp_path / "absent"))


def test_on_a_disk_that_became_read_only_tidying_up_does_not_hide_why_a_write_failed(
    tmp_path, monkeypatch
):
    def refused(*anything, **options):
        raise OSError(errno.EROFS, "Read-only file system")

    write_atomic(tmp_path / "a", "before")
    with monkeypatch.context() as patched:
        patched.setattr(Path, "write_bytes", refused)
        patched.setattr(Path, "unlink", refused)
        with pytest.raises(ZiaError, match=r"cannot write .*a: Read-only file system"):
            write_atomic(tmp_path / "a", "after")
    assert (tmp_path / "a").read_text() == "before"
