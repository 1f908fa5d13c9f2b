import json
import re
import shutil
import socket
import subprocess
from importlib.metadata import version
from pathlib import Path

import pytest

from experiments.harness import provenance
from experiments.harness.provenance import data_fingerprint, git_state, weights_fingerprint
from zia_core.errors import ZiaError

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")


@pytest.fixture
def checkout(tmp_path):
    """A repository with one committed file, and a function that runs git in it."""
    project = tmp_path / "project"
    project.mkdir()

    def git(*arguments):
        identity = ("-c", "user.name=n", "-c", "user.email=e@example.org")
        command = ["git", "-C", str(project), *identity, *arguments]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "--quiet")
    (project / "code.py").write_text("a = 1\n")
    (project / ".gitignore").write_text("ignored\n")
    git("add", ".")
    git("commit", "--quiet", "-m", "first")
    return project, git


@needs_git
def test_a_clean_checkout_is_its_commit(checkout):
    project, git = checkout
    (project / "ignored").write_text("whatever")
    expected = {"sha": git("rev-parse", "HEAD"), "dirty": False, "diff_sha256": None}
    assert git_state(project) == expected


@needs_git
def test_every_change_of_the_code_shows(checkout):
    project, git = checkout

    def changed():
        state = git_state(project)
        assert state["dirty"]
        assert re.fullmatch("[0-9a-f]{64}", state["diff_sha256"])
        return state["diff_sha256"]

    (project / "code.py").write_text("a = 2\n")
    hashes = [changed()]
    git("add", "code.py")
    assert changed() == hashes[0], "staged or not, the code is the same"
    (project / "new.py").write_text("b = 1\n")
    hashes.append(changed())
    (project / "new.py").write_text("b = 2\n")
    hashes.append(changed())
    (project / "nowhere").symlink_to("absent")
    hashes.append(changed())
    assert len(set(hashes)) == len(hashes)


@needs_git
def test_outside_a_checkout_there_is_no_commit(checkout, tmp_path):
    project, _ = checkout
    inside = project / "site-packages"
    inside.mkdir()
    assert git_state(inside) is None, "somebody else's repository around us"
    assert git_state(tmp_path) is None


@needs_git
def test_a_hook_of_another_repository_does_not_mislead(checkout, tmp_path, monkeypatch):
    project, git = checkout
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "other"))
    state = git_state(project)
    monkeypatch.delenv("GIT_DIR")
    assert state["sha"] == git("rev-parse", "HEAD")


@needs_git
def test_before_the_first_commit_everything_is_a_change(tmp_path):
    subprocess.run(["git", "init", "--quiet", str(tmp_path)], check=True)
    (tmp_path / "a").write_text("x")
    state = git_state(tmp_path)
    assert state["sha"] is None
    assert state["dirty"]


def test_without_git_there_is_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_state(tmp_path) is None


def test_the_environment_names_packages_and_machine_but_no_place():
    state = provenance.environment(with_torch=True)
    assert state["packages"]["safetensors"] == version("safetensors")
    assert state["torch"]["version"].startswith(version("torch").split("+")[0])
    assert state["torch"]["threads"] >= 1
    assert state["host"] == socket.gethostname()
    assert state["cpu"]["usable_cores"] >= 1
    text = json.dumps(state)
    for place in (str(Path.home()), str(provenance.PROJECT)):
        assert place not in text


def test_the_environment_does_without_torch(start_child):
    child = start_child(
        "import sys\nfrom experiments.harness import folder, provenance\n"
        "print(provenance.environment(with_torch=False)['torch'], 'torch' in sys.modules)"
    )
    assert child.communicate()[0] == "None False\n"


def test_a_fingerprint_follows_every_byte_and_name(tmp_path):
    data = tmp_path / "data"
    (data / "part").mkdir(parents=True)
    (data / "a.json").write_text("abc")
    (data / "part" / "b.json").write_text("b")
    assert data_fingerprint(data / "a.json").startswith("ba7816bf8f01cfea")
    seen = [data_fingerprint(data)]
    assert data_fingerprint(data) == seen[0]
    (data / "a.json").write_text("abd")
    seen.append(data_fingerprint(data))
    (data / "a.json").rename(data / "c.json")
    seen.append(data_fingerprint(data))
    assert len(set(seen)) == 3


def test_weights_are_known_by_their_files(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / f"{name}.safetensors").write_text("abc")
    files = sorted(tmp_path.rglob("*.safetensors"))
    fingerprints = weights_fingerprint(files)
    assert sorted(fingerprints) == ["one.safetensors", "two.safetensors"]
    assert all(value.startswith("ba7816bf8f01cfea") for value in fingerprints.values())
    with pytest.raises(ZiaError, match="two weight files of one backbone are named one"):
        weights_fingerprint([files[0], files[0]])
    with pytest.raises(ZiaError, match=r"cannot read .*absent"):
        weights_fingerprint([tmp_path / "absent"])


def test_the_code_of_a_job_is_that_of_its_submission(tmp_path, monkeypatch):
    git = {"sha": "abc", "dirty": True, "diff_sha256": "def"}
    record = {"snapshot": "0123456789abcdef", "git": git}
    (tmp_path / "submission.json").write_text(json.dumps(record))
    monkeypatch.setenv(provenance.SUBMISSION, str(tmp_path))
    copy = tmp_path / "0123456789abcdef"
    copy.mkdir()
    assert provenance.code_state(copy) == git
    assert provenance.code_state(tmp_path) is None, "not the code of that submission"
    monkeypatch.delenv(provenance.SUBMISSION)
    assert provenance.code_state(copy) is None


def test_the_code_s_state_is_that_of_the_first_run_of_a_process(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """What is imported stays, whatever is edited; and git takes longer than the rest."""
    states = iter([{"sha": "imported"}, {"sha": "edited later"}])
    monkeypatch.setattr(provenance, "git_state", lambda project: next(states))
    provenance._imported_code.cache_clear()
    try:
        for _ in range(3):
            assert provenance.environment(with_torch=False)["git"] == {"sha": "imported"}
    finally:
        provenance._imported_code.cache_clear()
