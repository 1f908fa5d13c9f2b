"""Record the code, packages, machine, data and weights of a run; not part of its identity."""

import functools
import hashlib
import os
import platform
import socket
import subprocess
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path
from typing import Any

from experiments.io.files import read_json, sha256_file
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

SUBMISSION = "ZIA_SUBMISSION"  # environment variable of a job: its submission folder
SUBMISSION_FILE = "submission.json"
PROJECT = Path(__file__).resolve().parents[2]


def environment(*, with_torch: bool) -> dict[str, Any]:
    """Return code, packages and machine as JSON, without paths or user names.

    `with_torch` adds torch's build, threads and GPUs, which imports torch.
    """
    return {
        "git": _imported_code(os.environ.get(SUBMISSION)),
        "packages": dict(_packages()),
        "python": platform.python_version(),
        "platform": platform.platform(),
        "host": socket.gethostname(),
        "cpu": {"model": _cpu_model(), "cores": os.cpu_count(), "usable_cores": usable_cores()},
        "torch": _torch() if with_torch else None,
    }


@functools.cache  # an edit does not change what this process has imported
def _imported_code(submission: str | None) -> dict[str, Any] | None:
    """`code_state` of this project in a job of `submission`, which it reads itself."""
    return code_state(PROJECT)


def code_state(project: Path) -> dict[str, Any] | None:
    """`git_state` of `project`, or for a job's snapshot that of the original checkout."""
    if folder := os.environ.get(SUBMISSION):
        path = Path(folder) / SUBMISSION_FILE
        kinds = {"snapshot": str, "git": dict | None}
        record = conform_fields(kinds, read_json(path), str(path))
        if project.name == record["snapshot"]:
            return dict(record["git"]) if record["git"] else None
    return git_state(project)


def git_state(project: Path) -> dict[str, Any] | None:
    """Return {"sha", "dirty", "diff_sha256"} of the checkout `project`; None if it is not one.

    `sha` is None before the first commit. The diff covers all tracked files against HEAD and
    untracked files that git does not ignore; its hash is None in a clean checkout.
    """
    git = functools.partial(git_output, project)
    top = git("rev-parse", "--show-toplevel")
    # A copy inside somebody else's repository has no state of its own.
    if top is None or Path(os.fsdecode(top.rstrip(b"\n"))).resolve() != project.resolve():
        return None
    sha = git("rev-parse", "--verify", "--quiet", "HEAD")
    diff = git("diff", "--no-ext-diff", "--no-textconv", "--no-color", "--binary", "HEAD") or b""
    untracked = git("ls-files", "--others", "--exclude-standard", "-z") or b""
    for name in sorted(filter(None, untracked.split(b"\0"))):
        path = project / os.fsdecode(name)
        # Untracked links may lead anywhere; only their names count.
        content = "" if path.is_symlink() or not path.is_file() else sha256_file(path)
        diff += name + b"\0" + content.encode() + b"\n"
    return {
        "sha": sha.decode().strip() if sha else None,
        "dirty": bool(diff),
        "diff_sha256": hashlib.sha256(diff).hexdigest() if diff else None,
    }


def data_fingerprint(path: Path) -> str:
    """Return the SHA-256 of a data file, or of the names and SHA-256s of a folder's files."""
    if not path.is_dir():
        return sha256_file(path)
    files = sorted(p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file())
    listing = "".join(f"{sha256_file(path / name)}  {name}\n" for name in files)
    return hashlib.sha256(listing.encode()).hexdigest()


def weights_fingerprint(files: Iterable[Path]) -> dict[str, str]:
    """Return the SHA-256 of each weight file by name: the identity of a backbone."""
    fingerprints: dict[str, str] = {}
    for file in files:
        if file.name in fingerprints:
            raise ZiaError(f"two weight files of one backbone are named {file.name}")
        fingerprints[file.name] = sha256_file(file)
    return fingerprints


def git_output(project: Path, *arguments: str) -> bytes | None:
    """The output of git in `project`; None without git or if it fails."""
    # GIT_DIR and the like, set in hooks, would point git to another repository.
    clean = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    command = ["git", "--no-optional-locks", "-C", str(project), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, env=clean, check=False)
    except FileNotFoundError:
        return None
    return done.stdout if done.returncode == 0 else None


@functools.cache  # what this process has imported does not change
def _packages() -> dict[str, str]:
    """Every installed package with its version; metadata is parsed at each access."""
    found = [distribution.metadata for distribution in distributions()]
    # A half-removed package has no name.
    return dict(sorted((each["Name"], each["Version"]) for each in found if each["Name"]))


def _cpu_model() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return platform.processor()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.processor()


def usable_cores() -> int | None:
    """The number of CPU cores that this process may use; None if unknown."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()


def _torch() -> dict[str, Any]:
    import torch

    return {
        "version": torch.__version__,
        "cuda": torch.version.cuda,
        "threads": torch.get_num_threads(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(torch.cuda.device_count())],
    }
