"""Copies of the code beside the runs, so that jobs run what was submitted."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from experiments.harness.provenance import PROJECT, git_output, git_state
from experiments.io.files import sha256_file, write_errors
from zia_core.errors import ZiaError

SNAPSHOTS = "snapshots"  # in the folder of runs
DIGITS = 16
MAX_BYTES = 500_000_000
PACKAGES = ("zia_core", "experiments", "benchmarks")
EXCLUDED = "results/"  # committed evidence
ATTEMPTS = 5
COPYING = ".copying-"


@dataclass(frozen=True)
class Code:
    """The project's files as {name: SHA-256}, and the git state of the checkout."""

    project: Path
    files: dict[str, str]
    git: dict[str, Any] | None

    @property
    def digest(self) -> str:
        """16 hex digits, equal for equal names and contents."""
        return _digest(self.files)


class ChangedCodeError(ZiaError):
    """The code is no longer what was submitted or started."""


def read_code(project: Path) -> Code:
    """Hash all files that git tracks or does not ignore, except results."""
    names = [name for name in _names(project) if not name.startswith(EXCLUDED)]
    sizes = {name: (project / name).stat().st_size for name in names}
    if sum(sizes.values()) > MAX_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ZiaError(
            f"the code in {project} has {sum(sizes.values()) / 1e6:,.0f} MB, too much to copy for "
            f"every submission; the largest file is {largest}: move it, or let git ignore it"
        )
    files = {name: sha256_file(project / name) for name in names}
    return Code(project, files, git_state(project))


def take_snapshot(project: Path, runs_root: Path) -> Code:
    """Copy the project's code to `<runs_root>/snapshots/<digest>/`, unless it is there.

    The caller holds the submission lock. Raises ZiaError if the code keeps changing or the copy
    was edited.
    """
    for _ in range(ATTEMPTS):
        code = read_code(project)
        folder = runs_root / SNAPSHOTS / code.digest
        if folder.is_dir():
            check(folder)
            return code
        with write_errors(folder):
            if _copy(code, folder):
                return code
    raise ZiaError(f"the code in {project} keeps changing: try again when it no longer does")


def check(folder: Path) -> None:
    """Raise ChangedCodeError unless a copy holds exactly what its name, the digest, says.

    Nothing writes there: jobs keep no bytecode.
    """
    try:
        paths = [path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()]
        files = {path.relative_to(folder).as_posix(): _hash(path) for path in paths}
        if _digest(files) == folder.name:
            return
        changes = {path: path.lstat().st_ctime_ns for path in (*paths, folder, *folder.rglob("*"))}
    except OSError as error:
        raise ChangedCodeError(f"cannot read the code in {folder}: {error.strerror}") from error
    newest = max(changes, key=lambda path: changes[path]).relative_to(folder.parent)
    raise ChangedCodeError(
        f"the code in {folder} was changed after it was copied, most recently {newest}: "
        "delete it, and submit again"
    )


def check_imports(project: Path) -> None:
    """Raise ZiaError unless this process imports its code from `project`."""
    for name in PACKAGES:
        found = find_spec(name)
        places = (found and found.submodule_search_locations) or ["nowhere"]
        if [Path(place).resolve() for place in places] != [(project / name).resolve()]:
            raise ZiaError(
                f"{name} would be imported from {places[0]} instead of {project}: check what "
                "sets PYTHONPATH (setup in the cluster file?)"
            )


class CodeGuard:
    """Notices edits of the modules that this process may still import."""

    def __init__(self, project: Path | None = None) -> None:
        self._project = project or PROJECT
        self._before = self._look()

    def check(self) -> None:
        """Raise ChangedCodeError after an edit: the next run would mix old and new code."""
        now = self._look()
        changed = self._before.items() ^ now.items()
        if changed:
            raise ChangedCodeError(
                f"{min(name for name, _ in changed)} was changed since this process started, so "
                "it begins no further run: the same command does the rest with the new code"
            )

    def _look(self) -> dict[str, tuple[int, int]]:
        found: dict[str, tuple[int, int]] = {}
        for path in (path for name in PACKAGES for path in (self._project / name).rglob("*.py")):
            if path.name.startswith("."):  # not a module: Emacs locks files with dangling links
                continue
            with suppress(FileNotFoundError):  # just removed; the comparison shows it
                stat = path.stat()
                found[path.relative_to(self._project).as_posix()] = stat.st_mtime_ns, stat.st_size
        return found


def _copy(code: Code, folder: Path) -> bool:
    """Make the copy; False if the project changed meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.parent.glob(f"{COPYING}*"):
        shutil.rmtree(abandoned)
    copy = Path(mkdtemp(prefix=COPYING, dir=folder.parent))
    try:
        for name in code.files:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # just removed; the comparison shows it
                shutil.copyfile(code.project / name, target)
        if _hashes(copy, code) != code.files or read_code(code.project) != code:
            return False
        copy.chmod(0o777 & ~_umask())  # mkdtemp grants nothing to the group
        copy.rename(folder)
    finally:
        shutil.rmtree(copy, ignore_errors=True)
    return True


def _names(project: Path) -> list[str]:
    listed = git_output(project, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
    if listed is None:  # not a checkout: an archive or an installed copy
        found = (path for package in PACKAGES for path in (project / package).rglob("*"))
        names = [path.relative_to(project).as_posix() for path in found]
        names = [name for name in names if "__pycache__" not in name]
    else:
        names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    # Deleted files are still listed, and links may lead anywhere.
    return sorted(
        {name for name in names if (project / name).is_file() and not (project / name).is_symlink()}
    )


def _hashes(folder: Path, code: Code) -> dict[str, str]:
    return {name: _hash(folder / name) for name in code.files}


def _hash(path: Path) -> str:
    """The SHA-256 of a regular file; empty for anything else, which no copy contains."""
    return sha256_file(path) if path.is_file() and not path.is_symlink() else ""


def _digest(files: dict[str, str]) -> str:
    listing = "".join(f"{sha}  {name}\0" for name, sha in sorted(files.items()))
    return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
