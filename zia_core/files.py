"""Replace files atomically and durably: temporary file, fsync, rename, fsync of the folder."""

import errno
import hashlib
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from zia_core.errors import ZiaError

# Disk full, quota reached, file too large for the system.
NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def write_atomic(path: Path, data: bytes | str, *, staging: Path | None = None) -> None:
    """Replace `path` by `data`; if that fails, the old file stays.

    Args:
        path: the file, in a folder that exists.
        data: bytes, or text to be written in UTF-8.
        staging: folder for the temporary file, on the same file system; `path`'s own by default.

    Raises:
        ZiaError: the file cannot be written.
    """
    with replacing(path, staging=staging) as temporary:
        # Names and records may hold lone surrogates.
        contents = data.encode(errors="backslashreplace") if isinstance(data, str) else data
        temporary.write_bytes(contents)


@contextmanager
def replacing(path: Path, *, staging: Path | None = None) -> Iterator[Path]:
    """Yield the path of a temporary file to write, which replaces `path` if the block succeeds.

    If the block raises, the old file stays and the temporary file is removed. A new file should get
    the mode that the umask grants: create it by `open`.

    Raises:
        ZiaError: the file cannot be written.
    """
    # Ends in the target's name, since writers look at the suffix (".safetensors").
    temporary = (staging or path.parent) / f".{secrets.token_hex(6)}.{path.name}"
    try:
        with write_errors(path, through=temporary):
            yield temporary
        with write_errors(path):
            fsync(temporary)
            temporary.replace(path)
            fsync(path.parent)
    finally:
        with suppress(OSError):  # the disk became read-only, which was already reported
            temporary.unlink(missing_ok=True)


@contextmanager
def write_errors(path: Path, *, through: Path | None = None) -> Iterator[None]:
    """Turn an OSError within the block into a ZiaError about writing `path`.

    If the block writes `through` a temporary file, OSErrors about other files are left alone.
    """
    try:
        yield
    except OSError as error:
        if through is not None and error.filename not in (None, str(through)):
            raise
        reason = error.strerror or str(error)
        raise cannot_write(path, reason, no_room=error.errno in NO_ROOM) from error


def cannot_write(path: Path, reason: str, *, no_room: bool) -> ZiaError:
    """The error for a file that could not be replaced."""
    advice = ": make room there and try again" if no_room else ""
    return ZiaError(f"cannot write {path}: {reason}; what was there before is unchanged{advice}")


def fsync(path: Path) -> None:
    """Make a file or folder durable."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_file(path: Path) -> str:
    """The SHA-256 of a file, as 64 hexadecimal digits.

    Raises:
        ZiaError: the file cannot be read.
    """
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror}") from error
