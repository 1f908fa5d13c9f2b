import os
import shutil
import stat
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from experiments.dispatch import code_snapshot
from experiments.dispatch.code_snapshot import ChangedCodeError, CodeGuard
from zia_core.errors import ZiaError

pytestmark = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A checkout with a tracked, an untracked, an ignored, a deleted file, and links."""
    project = tmp_path / "project"
    for name, text in {
        "package/code.py": "a = 1\n",
        "package/new.py": "b = 1\n",
        "ignored/weights.bin": "large",
        ".gitignore": "ignored/\n",
        "results/published/result.json": "{}",
        "deleted.py": "c = 1\n",
    }.items():
        (project / name).parent.mkdir(parents=True, exist_ok=True)
        (project / name).write_text(text)
    (project / "out").symlink_to("/etc")
    (project / "hosts").symlink_to("/etc/hosts")
    git(project, "init", "--quiet")
    git(project, "add", ".gitignore", "package/code.py", "results", "deleted.py")
    git(project, "commit", "--quiet", "-m", "first")
    (project / "deleted.py").unlink()
    return project


def git(project: Path, *arguments: str) -> None:
    identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
    subprocess.run(["git", "-C", str(project), *identity, *arguments], check=True)


def taken(project: Path, runs: Path) -> Path:
    return runs / "snapshots" / code_snapshot.take_snapshot(project, runs).digest


def names(folder: Path) -> set[str]:
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}


def test_it_has_the_code_as_it_is_and_nothing_else(project: Path, tmp_path: Path) -> None:
    (project / "package/code.py").write_text("a = 2\n")
    copy = taken(project, tmp_path / "runs")
    assert names(copy) == {".gitignore", "package/code.py", "package/new.py"}
    assert (copy / "package/code.py").read_text() == "a = 2\n"
    (project / "package/code.py").write_text("a = 3\n")
    assert (copy / "package/code.py").read_text() == "a = 2\n"


def test_equal_code_shares_a_copy_whatever_its_commit(project: Path, tmp_path: Path) -> None:
    first = taken(project, tmp_path / "runs")
    before = first.stat().st_mtime_ns
    git(project, "add", ".")
    git(project, "commit", "--quiet", "-m", "second")
    assert taken(project, tmp_path / "runs") == first
    assert first.stat().st_mtime_ns == before
    (project / "package/code.py").rename(project / "package/other.py")
    assert taken(project, tmp_path / "runs") != first


def test_a_copy_that_was_changed_is_refused(project: Path, tmp_path: Path) -> None:
    copy = taken(project, tmp_path / "runs")
    (copy / "package/code.py").write_text("a = 9\n")
    with pytest.raises(
        ChangedCodeError, match=r"was changed .*, most recently \w+/package/code\.py:"
    ):
        taken(project, tmp_path / "runs")


@pytest.mark.parametrize(
    "change",
    [
        lambda copy: (copy / "sitecustomize.py").write_text("print('here')\n"),
        lambda copy: (
            (copy / "package/__pycache__").mkdir()
            or (copy / "package/__pycache__/code.cpython-311.pyc").write_bytes(b"compiled")
        ),
        lambda copy: (copy / "torch.py").symlink_to("/elsewhere/torch.py"),
        lambda copy: (copy / "package/new.py").unlink(),
        lambda copy: (copy / "package/new.py").rename(copy / "package/other.py"),
        lambda copy: os.mkfifo(copy / "package/pipe.py"),
    ],
)
def test_what_is_added_to_a_copy_or_removed_from_it_is_noticed(
    project: Path, tmp_path: Path, change: Callable[[Path], object]
) -> None:
    copy = taken(project, tmp_path / "runs")
    code_snapshot.check(copy)
    change(copy)
    with pytest.raises(ChangedCodeError, match="was changed after it was copied, most recently "):
        code_snapshot.check(copy)
    with pytest.raises(ChangedCodeError, match="was changed after it was copied, most recently "):
        taken(project, tmp_path / "runs")


def test_code_from_elsewhere_is_noticed(
    project: Path, tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code_snapshot.check_imports(repository)
    with pytest.raises(ZiaError, match=r"zia_core would be imported from .* instead of .*/runs"):
        code_snapshot.check_imports(taken(project, tmp_path / "runs"))


def test_editor_files_beside_a_module_are_not_modules(project: Path) -> None:
    package = project / code_snapshot.PACKAGES[0]
    package.mkdir()
    code = CodeGuard(project)
    (package / ".#code.py").symlink_to("somebody@somewhere.17")
    code.check()
    CodeGuard(project).check()
    (package / "gone.py").symlink_to("nowhere")  # as one that is removed while it is looked at
    CodeGuard(project).check()
    (package / "code.py").touch()
    with pytest.raises(ChangedCodeError, match=r"code\.py was changed since this process started"):
        code.check()


@pytest.mark.parametrize("how_often", [2, 100])
def test_code_that_changes_meanwhile_is_copied_when_that_has_ended(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how_often: int
) -> None:
    changes = iter(range(how_often))

    def copy_beside_an_editor(source: Path, target: Path) -> None:
        target.write_bytes(source.read_bytes())
        if (change := next(changes, None)) is not None:
            (project / "package/code.py").write_text(f"a = {change}\n")

    monkeypatch.setattr(code_snapshot.shutil, "copyfile", copy_beside_an_editor)
    if how_often == 2:
        assert (taken(project, tmp_path / "runs") / "package/code.py").read_text() == "a = 1\n"
        assert len(list((tmp_path / "runs/snapshots").iterdir())) == 1
    else:
        with pytest.raises(ZiaError, match="keeps changing: try again"):
            taken(project, tmp_path / "runs")
        assert not list((tmp_path / "runs/snapshots").iterdir())


def test_what_a_killed_copy_left_is_removed(project: Path, tmp_path: Path) -> None:
    abandoned = tmp_path / "runs/snapshots/.copying-abc"
    abandoned.mkdir(parents=True)
    copy = taken(project, tmp_path / "runs")
    assert list(copy.parent.iterdir()) == [copy]


def test_the_umask_is_respected(project: Path, tmp_path: Path) -> None:
    before = os.umask(0o027)
    try:
        copy = taken(project, tmp_path / "runs")
    finally:
        os.umask(before)
    modes = [stat.S_IMODE(path.stat().st_mode) for path in (copy, copy / "package/code.py")]
    assert modes == [0o750, 0o640]


def test_a_large_file_is_named(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(code_snapshot, "MAX_BYTES", 1000)
    (project / "dump.bin").write_bytes(b"0" * 1001)
    with pytest.raises(ZiaError, match=r"the largest file is dump\.bin"):
        code_snapshot.read_code(project)
