"""Jobs run the code as it was when they were submitted: a copy beside the runs."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from experiments.harness.files import sha256_file, write_errors
from experiments.harness.provenance import git_output, git_state
from zia_core.errors import ZiaError

SNAPSHOTS = "snapshots"  # in the folder of runs
DIGITS = 16
MOST_BYTES = 500_000_000
PACKAGES = ("zia_core", "experiments", "benchmarks")
NO_CODE = "results/"  # committed evidence
ATTEMPTS = 5
COPYING = ".copying-"


@dataclass(frozen=True)
class Code:
    """The project's files at one moment: {name: SHA-256}, and the state of the checkout."""

    project: Path
    files: dict[str, str]
    git: dict[str, Any] | None

    @property
    def digest(self) -> str:
        """16 hex digits that are the same wherever all names and contents are."""
        listing = "".join(f"{sha}  {name}\0" for name, sha in sorted(self.files.items()))
        return hashlib.sha256(listing.encode("utf-8", "surrogateescape")).hexdigest()[:DIGITS]


def read_code(project: Path) -> Code:
    """Look at all files of the project that git tracks or does not ignore, results left out."""
    names = [name for name in _names(project) if not name.startswith(NO_CODE)]
    sizes = {name: (project / name).stat().st_size for name in names}
    if sum(sizes.values()) > MOST_BYTES:
        largest = max(sizes, key=lambda name: sizes[name])
        raise ZiaError(
            f"the code in {project} has {sum(sizes.values()) / 1e6:,.0f} MB, too much to be copied "
            f"for every submission; the largest file is {largest}: move it, or have git ignore it"
        )
    files = {name: sha256_file(project / name) for name in names}
    return Code(project, files, git_state(project))


def take(project: Path, runs_root: Path) -> Code:
    """Copy the project's code to `<runs_root>/snapshots/<digest>/`, if it is not there.

    The caller has the lock of the submissions. ZiaError if the code is being changed all the time,
    or if somebody has changed the copy.
    """
    for _ in range(ATTEMPTS):
        code = read_code(project)
        folder = runs_root / SNAPSHOTS / code.digest
        if folder.is_dir():
            if _hashes(folder, code) != code.files:
                raise ZiaError(f"the code in {folder} was changed after it was copied: delete it")
            return code
        with write_errors(folder):
            if _copy(code, folder):
                return code
    raise ZiaError(f"the code in {project} is being changed: try again when that has ended")


def _copy(code: Code, folder: Path) -> bool:
    """Make the copy, unless the project was changed meanwhile."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    for abandoned in folder.parent.glob(f"{COPYING}*"):
        shutil.rmtree(abandoned)
    copy = Path(mkdtemp(prefix=COPYING, dir=folder.parent))
    try:
        for name in code.files:
            target = copy / name
            target.parent.mkdir(parents=True, exist_ok=True)
            with suppress(FileNotFoundError):  # removed just now, which the comparison will show
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
    if listed is None:  # no checkout: an archive of the project, or an installed copy
        found = (path for package in PACKAGES for path in (project / package).rglob("*"))
        names = [path.relative_to(project).as_posix() for path in found]
        names = [name for name in names if "__pycache__" not in name]
    else:
        names = [os.fsdecode(name) for name in listed.split(b"\0") if name]
    # Deleted ones are listed still, and links lead anywhere.
    return sorted(
        {name for name in names if (project / name).is_file() and not (project / name).is_symlink()}
    )


def _hashes(folder: Path, code: Code) -> dict[str, str]:
    return {
        name: sha256_file(folder / name) if (folder / name).is_file() else "" for name in code.files
    }


def _umask() -> int:
    mask = os.umask(0o077)
    os.umask(mask)
    return mask
