"""JSON files that are replaced atomically, and logs of JSON lines.

Every failure to read or write is a `ZiaError` that names the file. Atomic replacement itself is in
`zia_core.files` and only re-exported here.
"""

import hashlib
import json
import os
from contextlib import ExitStack, suppress
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any, Protocol

from zia_core.errors import ZiaError
from zia_core.files import NO_ROOM, replacing, sha256_file, write_atomic, write_errors
from zia_core.strict_json import loads

__all__ = [
    "AppendLog",
    "Readable",
    "canonical_json",
    "check_output",
    "indented_json",
    "read_json",
    "read_line",
    "read_lines",
    "replacing",
    "sha256_file",
    "write_atomic",
    "write_errors",
    "write_json_atomic",
]


def canonical_json(value: object) -> str:
    """Return the one JSON text of `value`: sorted keys, no spaces, ASCII, finite numbers only."""
    try:
        return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ZiaError(f"cannot be stored as JSON ({error}): {value!r:.200}") from error


class Readable(Protocol):
    """A file that can be read whole: a `Path`, or a file in an archive."""

    def read_bytes(self) -> bytes:
        """Its content."""


def indented_json(value: object) -> str:
    """Return `value` as JSON for people; ZiaError for what JSON lacks, NaN and infinity too."""
    canonical_json(value)
    return json.dumps(value, indent=2, allow_nan=False) + "\n"


def read_json(path: Readable) -> dict[str, Any]:
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
    write_atomic(path, indented_json(value), staging=staging)


def check_output(folder: Path) -> None:
    """Raise ZiaError unless `folder` is writable or could be created; changes nothing.

    Call it before long work whose result goes there.
    """
    whole = folder.absolute()
    there = next(path for path in (whole, *whole.parents) if os.path.lexists(path))
    try:
        with TemporaryFile(dir=there) as probe:
            probe.write(b"0")  # a full disk still has room for an empty file
    except OSError as error:
        advice = "make room there" if error.errno in NO_ROOM else "choose another folder"
        raise ZiaError(
            f"cannot write into the folder {folder} ({error.strerror or error}): {advice}"
        ) from error


class AppendLog:
    """JSON lines appended by a single writer through one descriptor.

    The log is a new file moved over `path`, so a stale process that still holds the old file writes
    to a file without a name.
    """

    def __init__(self, path: Path, kept: bytes, *, staging: Path) -> None:
        """Replace `path` by the lines in `kept`; `append` continues them."""
        self.path = path
        with ExitStack() as closed_on_errors:
            with replacing(path, staging=staging) as temporary, write_errors(path):
                flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_EXCL
                # Opened before the rename: afterwards, the name may belong to a successor's file.
                self._descriptor = os.open(temporary, flags, 0o666)
                closed_on_errors.callback(os.close, self._descriptor)
                self.size = 0
                self._digest = hashlib.sha256()
                self._write(kept)
            closed_on_errors.pop_all()

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


def read_lines(path: Readable) -> list[dict[str, Any]]:
    """Return the records of a log, without a last line that a killed writer left incomplete.

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
    with suppress(ValueError):  # parsing all lines at once is four times faster
        records = loads(b"[" + b",".join(lines) + b"]")
    if len(records) != len(lines) or not all(isinstance(record, dict) for record in records):
        records = [read_line(line, path, number) for number, line in enumerate(lines, start=1)]
    return records


def read_line(line: str | bytes, path: object, number: int) -> dict[str, Any]:
    """Return the JSON object in a line of `path`; ZiaError names the line if there is none."""
    try:
        record = loads(line)
    except ValueError as error:
        raise ZiaError(f"{path}, line {number} is not valid JSON ({error})") from error
    if not isinstance(record, dict):
        raise ZiaError(f"{path}, line {number} must be a JSON object, not {type(record).__name__}")
    return record
