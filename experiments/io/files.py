"""Files that survive a crash: whole files replaced atomically, and logs of JSON lines.

A file is on disk either in its old or in its new form, never half-written: temporary file, fsync,
rename, fsync of the folder. Every failure to read or write is a `ZiaError` that names the file.
"""

import errno
import hashlib
import json
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from zia_core.errors import ZiaError
from zia_core.strict_json import loads

# Disk full, quota reached, file too large for the system.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, ASCII, finite numbers only."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ZiaError(f"cannot be stored as JSON ({error}): {value!r:.200}") from error


def read_json(path: Path) -> dict[str, Any]:
    """Return the JSON object in the file `path`; ZiaError if it is missing or not an object."""
    try:
        value = loads(path.read_bytes())
    except FileNotFoundError as error:
        raise ZiaError(f"{path} is missing") from error
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror}") from error
    except ValueError as error:  # JSONDecodeError and UnicodeDecodeError
        raise ZiaError(f"{path} is not valid JSON ({error}): restore or delete it") from error
    if not isinstance(value, dict):
        raise ZiaError(f"{path} must hold a JSON object, not {type(value).__name__}")
    return value


def write_json_atomic(path: Path, value: object, *, staging: Path | None = None) -> None:
    """Replace `path` by indented JSON; ZiaError for NaN, infinity or a type that JSON lacks."""
    canonical_json(value)
    write_atomic(path, json.dumps(value, indent=2, allow_nan=False) + "\n", staging=staging)


def write_atomic(path: Path, data: bytes | str, *, staging: Path | None = None) -> None:
    """Replace `path` by `data` in one step that lasts; on failure the old file stays.

    The temporary file lies in `staging` (same file system; default: the folder of `path`).
    """
    with replacing(path, staging=staging) as temporary:
        # Half of a surrogate pair, which a name or a record may hold, is written out.
        whole = data.encode(errors="backslashreplace") if isinstance(data, str) else data
        temporary.write_bytes(whole)


@contextmanager
def replacing(path: Path, *, staging: Path | None = None) -> Iterator[Path]:
    """Give the path of a temporary file to write; it becomes `path` when the block succeeds.

    The mode of the new file is what the umask grants. A block that fails leaves nothing behind;
    where it could not write the file, that is the sentence which names `path`.
    """
    # The name of the target is kept, since writers look at the suffix (".safetensors").
    temporary = (staging or path.parent) / f".{secrets.token_hex(6)}.{path.name}"
    try:
        with write_errors(path, through=temporary):
            yield temporary
        with write_errors(path):
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)
    finally:
        with suppress(OSError):  # on a disk that became read-only: its reason is told already
            temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path, *, through: Path | None = None) -> Iterator[None]:
    """Turn an OSError into the sentence that names `path` (full disk, no permission, ...).

    Where the block writes `through` a temporary file, an error that names another one is not meant.
    """
    try:
        yield
    except OSError as error:
        if through is not None and error.filename not in (None, str(through)):
            raise
        advice = ": make room there and try again" if error.errno in NO_ROOM else ""
        raise ZiaError(
            f"cannot write {path}: {error.strerror or error}; what was there before is unchanged"
            f"{advice}"
        ) from error


def check_output(folder: Path) -> None:
    """Raise ZiaError unless files can be written into `folder`, or it can be made; nothing is.

    Asked before the work begins: nobody wants to hear of it when all runs are done.
    """
    whole = folder.absolute()
    there = next(path for path in (whole, *whole.parents) if os.path.lexists(path))
    try:
        with TemporaryFile(dir=there) as probe:
            probe.write(b"0")  # a full disk has room for a file, if it is empty
    except OSError as error:
        advice = "make room there" if error.errno in NO_ROOM else "choose another folder"
        raise ZiaError(
            f"cannot write into the folder {folder} ({error.strerror or error}): {advice}"
        ) from error


def fsync(path: Path) -> None:
    """Make the file or folder `path` durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """Return the SHA-256 of the bytes of `path` as 64 hex digits."""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror}") from error


class AppendLog:
    """JSON lines appended by one writer through a descriptor that it never opens again.

    The log is a new file, moved over `path`: whoever held the old one (a stopped process that was
    overtaken) writes into a file without a name.
    """

    def __init__(self, path: Path, kept: bytes, *, staging: Path) -> None:
        """Replace `path` by the lines in `kept`, to be continued."""
        self.path = path
        with replacing(path, staging=staging) as temporary, write_errors(path):
            flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
            # Opened before the rename: by name it could already be a successor's file.
            self._descriptor = os.open(temporary, flags, 0o666)
            self.size = 0
            self._digest = hashlib.sha256()
            try:
                self._write(kept)
            except OSError:
                os.close(self._descriptor)
                raise

    def append(self, record: dict[str, Any]) -> None:
        """Add one line; when the disk is full the log keeps its last whole line."""
        line = canonical_json(record).encode() + b"\n"
        with write_errors(self.path):
            self._write(line)

    def _write(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self._descriptor, rest) :]
        except OSError:
            os.ftruncate(self._descriptor, self.size)
            raise
        self.size += len(data)
        self._digest.update(data)

    @property
    def sha256(self) -> str:
        """The SHA-256 of the lines so far."""
        return self._digest.hexdigest()

    def sync(self) -> None:
        """Make every appended line durable."""
        with write_errors(self.path):
            os.fsync(self._descriptor)

    def close(self) -> None:
        """Close the descriptor; nothing can be appended afterwards."""
        os.close(self._descriptor)


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Return the records of a log; a last line without its end (a killed writer) is left out.

    ZiaError names the line that is not a JSON object.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror}") from error
    lines = content.split(b"\n")[:-1]
    records: list[dict[str, Any]] = []
    with suppress(ValueError):  # all at once, which takes a quarter of the time
        records = loads(b"[" + b",".join(lines) + b"]")
    if len(records) != len(lines) or not all(isinstance(record, dict) for record in records):
        records = [read_line(line, path, number) for number, line in enumerate(lines, start=1)]
    return records


def read_line(line: str | bytes, path: Path, number: int) -> dict[str, Any]:
    """Return the JSON object in a line of `path`; ZiaError names the line that holds none."""
    try:
        record = loads(line)
    except ValueError as error:
        raise ZiaError(f"{path}, line {number} is not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise ZiaError(f"{path}, line {number} must be a JSON object, not {type(record).__name__}")
    return record
