"""The seal of a finished run: `files.json` beside its files, with the SHA-256 of each.

It is written just before the status becomes "done", which it covers too; before that it says
nothing. Published copies have one of their own bytes. It tells damage and edits, not forgery:
whoever changes a file can change the seal as well.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path

from experiments.io.files import read_json, sha256_file, write_json_atomic
from experiments.io.safe_names import inside, is_plain
from zia_core.errors import ZiaError

SEAL = "files.json"
# What comes and goes while somebody works on a run, and the seal itself.
NEVER_SEALED = frozenset({SEAL, "owner", "checkpoint"})
ALWAYS_SEALED = frozenset({"config.json", "result.json", "status.json"})
TENSORS = ".safetensors"  # the end of the names of the files that may be large
HOW = "`zia verify --seal DIR` checks and seals runs that are older than seals"


def digests(folder: Path) -> dict[str, str]:
    """The SHA-256 of every file in `folder`, by its name there; links are nobody's files.

    Nor are hidden ones (.nfs0001, .DS_Store), which come and go, and names that no run gives.
    """
    names = (name for name in listing(folder) if is_plain(name) and not _is_hidden(name))
    return {name: sha256_file(folder / name) for name in names if not (folder / name).is_symlink()}


def write(folder: Path) -> None:
    """Seal the files in `folder` as they are."""
    write_json_atomic(folder / SEAL, digests(folder))


def read(folder: Path) -> dict[str, str] | None:
    """The SHA-256 of each sealed file by its name; None without a seal, ZiaError if it is none."""
    path = folder / SEAL
    if not path.exists():
        return None
    sealed = read_json(path)
    if not sealed.keys() >= ALWAYS_SEALED or not all(isinstance(it, str) for it in sealed.values()):
        raise ZiaError(f"{path} is not the seal of a run: restore it")
    return sealed


def check(folder: Path, sealed: dict[str, str], *, tensors: bool) -> None:
    """Raise ZiaError for the first file that is not as it was sealed; `tensors`: those as well."""
    for name, digest in sealed.items():
        if name.endswith(TENSORS) and not tensors:
            continue
        path = inside(folder, name, folder / SEAL)
        try:
            if name.endswith(TENSORS):
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


def listing(folder: Path) -> Iterator[str]:
    """The names of all files and links below `folder`, sorted, but for what is never sealed."""
    for path in sorted(folder.iterdir()):
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
