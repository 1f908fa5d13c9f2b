"""Seal finished runs: `files.json`, beside a run's files, has the SHA-256 of each.

It is written just before the status becomes "done", and covers that status. A published run has a
seal of its own files. Seals reveal damage and edits, not forgery: whoever changes a file can change
the seal too.
"""

import hashlib
from collections.abc import Iterator, Mapping
from pathlib import Path

from experiments.harness.archive import ArchivedRun, RunPath
from experiments.io.files import read_json, sha256_file, write_json_atomic
from experiments.io.safe_names import inside, is_plain
from zia_core.errors import ZiaError

SEAL = "files.json"
# What comes and goes while a run is worked on, and the seal itself.
NEVER_SEALED = frozenset({SEAL, "owner", "checkpoint"})
ALWAYS_SEALED = frozenset({"config.json", "result.json", "status.json"})
TENSORS = ".safetensors"  # ends the names of files that may be large
HOW = "`zia verify --seal DIR` checks and seals runs that are older than seals"


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in `folder`, by its name there.

    Left out are links, hidden files (.nfs0001, .DS_Store), and names that no run gives a file.
    """
    names = (name for name in listing(folder) if is_plain(name) and not _is_hidden(name))
    return {name: sha256_file(folder / name) for name in names if not (folder / name).is_symlink()}


def write(folder: Path) -> None:
    """Seal the files in `folder` as they are."""
    write_json_atomic(folder / SEAL, digests(folder))


def of_contents(files: Mapping[str, bytes]) -> dict[str, str]:
    """The seal of files that are not on disk: the SHA-256 of each, by its name."""
    return {name: hashlib.sha256(content).hexdigest() for name, content in sorted(files.items())}


def read(run: RunPath) -> dict[str, str] | None:
    """The SHA-256 of each sealed file by its name; None without a seal, ZiaError if it is none."""
    path = run / SEAL
    if not path.exists():
        return None
    sealed = read_json(path)
    if not sealed.keys() >= ALWAYS_SEALED or not all(isinstance(it, str) for it in sealed.values()):
        raise ZiaError(f"{path} is not the seal of a run: restore it")
    return sealed


def check(run: RunPath, sealed: dict[str, str], *, tensors: bool) -> None:
    """Raise ZiaError for the first file that differs from the seal; `tensors`: check those too."""
    for name, digest in sealed.items():
        if name.endswith(TENSORS) and not tensors:
            continue
        path = run / name if isinstance(run, ArchivedRun) else inside(run, name, run / SEAL)
        try:
            if isinstance(path, Path) and name.endswith(TENSORS):
                with path.open("rb") as file:
                    found = hashlib.file_digest(file, "sha256").hexdigest()
            else:  # small, and there are thousands of them: a buffer for each takes longer
                found = hashlib.sha256(path.read_bytes()).hexdigest()
        except FileNotFoundError as error:
            raise ZiaError(f"{path} is missing, but listed in {SEAL}: restore it") from error
        except OSError as error:
            raise ZiaError(f"cannot read {path}: {error.strerror}") from error
        if found != digest:
            raise ZiaError(
                f"{path} was changed since the run was done: its SHA-256 is not that in {SEAL}; "
                "restore it, or delete the run's folder and do it again"
            )


def listing(run: RunPath) -> Iterator[str]:
    """The names of all files and links of a run, sorted, except what is never sealed."""
    if isinstance(run, ArchivedRun):
        yield from (name for name in run.files if name not in NEVER_SEALED)
        return
    for path in sorted(run.iterdir()):
        if path.name not in NEVER_SEALED:
            yield from _below(path, path.name)


def _is_hidden(name: str) -> bool:
    return any(part.startswith(".") for part in name.split("/"))


def _below(path: Path, name: str) -> Iterator[str]:
    if path.is_symlink() or not path.is_dir():
        yield name
        return
    for inner in sorted(path.iterdir()):
        yield from _below(inner, f"{name}/{inner.name}")
