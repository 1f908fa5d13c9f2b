"""What `make test` and `.ci/run` do before any test runs."""

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

RECORD = """
import json, os, sys
with open(sys.argv[1], "a") as calls:
    place = [os.getcwd(), os.environ["ZIA_TEST_SHARED"], *sys.argv[2:]]
    calls.write(json.dumps(place) + "\\n")
"""


def test_as_many_workers_as_cores_that_the_tests_may_use(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, repository: Path
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: {2, 3, 5, 7, 11})
    monkeypatch.delenv("PYTEST_XDIST_AUTO_NUM_WORKERS", raising=False)
    assert request.config.hook.pytest_xdist_auto_num_workers(config=request.config) == 5
    assert "-m pytest -n auto " in (repository / "Makefile").read_text("utf-8")


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
@pytest.mark.parametrize("shared", [None, "data"])
def test_ci_works_in_a_clone_whose_path_is_hostile(
    tmp_path: Path, repository: Path, monkeypatch: pytest.MonkeyPatch, shared: str | None
) -> None:
    """`make` is one that writes down where it is called, and what for."""
    clone, calls, programs = tmp_path / "clone", tmp_path / "calls", tmp_path / "bin"
    (clone / ".ci").mkdir(parents=True)
    shutil.copy(repository / ".ci/run", clone / ".ci/run")
    shutil.copy(repository / ".gitignore", clone)
    programs.mkdir()
    make = programs / "make"
    command = shlex.join([sys.executable, "-c", RECORD, str(calls)])
    make.write_text(f'#!/bin/sh\nexec {command} "$@"\n')
    make.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.delenv("ZIA_TEST_SHARED", raising=False)
    if shared:
        monkeypatch.setenv("ZIA_TEST_SHARED", shared)

    def git(*arguments: str) -> str:
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        command = ["git", "-C", str(clone), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout

    git("init", "--quiet")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    subprocess.run(["bash", ".ci/run"], cwd=clone, check=True)
    subprocess.run(["bash", ".ci/run"], cwd=clone, check=True)  # also a second time
    assert git("status", "--porcelain") == ""
    done = [json.loads(line) for line in calls.read_text("utf-8").splitlines()]
    targets = [targets for _, _, *targets in done]
    assert targets[: len(targets) // 2] == targets[len(targets) // 2 :]
    expected = {
        "install",
        "lint",
        "types",
        "test",
        "test-slurm",
        "rehearse",
        "docs",
        "check-report",
    }
    assert expected <= {name for (name, *_) in targets}
    for place, data, *_ in done:
        inside = Path(place).relative_to(clone)
        assert {" ", "'"} <= set(str(inside))
        assert not str(inside).isascii()
        assert data == str(clone / "data" if shared else tmp_path / "shared")
