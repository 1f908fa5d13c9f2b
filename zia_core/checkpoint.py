"""Write and read checkpoints: one safetensors file each, written atomically, with a checksum.

Everything but the tensors (the step, running sums) is JSON in the header, beside a SHA-256 of the
whole file. Nothing is pickled.
"""

import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, TypeAlias

from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from torch import Tensor

from zia_core.errors import ZiaError
from zia_core.files import cannot_write, replacing
from zia_core.strict_json import loads

JSON: TypeAlias = "Mapping[str, JSON] | Sequence[JSON] | str | int | float | bool | None"

# The digest covers its own header, so it is computed with zeros in its place. The key cannot occur
# twice: inside any other JSON string its quotes would be escaped.
_DIGEST_KEY = b'"sha256":"'
_NO_DIGEST = b"0" * 64
_BLOCK = 1 << 20


def write_checkpoint(
    path: Path,
    tensors: Mapping[str, Tensor],
    state: Mapping[str, JSON],
    *,
    staging: Path | None = None,
) -> None:
    """Replace `path` by a checkpoint, atomically and durably.

    Args:
        path: the file, in a folder that exists.
        tensors: stored as they are.
        state: must be JSON without NaN.
        staging: folder for the temporary file, on the same file system; `path`'s own by default.

    Raises:
        ZiaError: the file could not be written (disk full, no permission); the old one stays.
    """
    header = {"sha256": _NO_DIGEST.decode(), "state": json.dumps(state, allow_nan=False)}
    with replacing(path, staging=staging) as temporary:
        # save_file makes the file readable by its owner only: keep the mode that the umask grants.
        temporary.touch()
        mode = temporary.stat().st_mode
        try:
            save_file({k: t.detach().contiguous() for k, t in tensors.items()}, temporary, header)
        except SafetensorError as error:  # with the OSError as text
            raise cannot_write(path, str(error), no_room=True) from error
        temporary.chmod(mode)
        with temporary.open("r+b") as file:
            digest_at = _digest_position(file)
            digest = _digest(file, digest_at)
            file.seek(digest_at)
            file.write(digest)


def read_checkpoint(path: Path) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Return the tensors (on the CPU) and the state that `write_checkpoint` stored.

    Raises:
        ZiaError: the file is missing or damaged.
    """
    try:
        with path.open("rb") as file:
            digest_at = _digest_position(file)
            file.seek(digest_at)
            if file.read(len(_NO_DIGEST)) != _digest(file, digest_at):
                raise ValueError("its contents do not match its SHA-256")
        with safe_open(path, framework="pt") as opened:
            tensors = {name: opened.get_tensor(name) for name in opened.keys()}  # noqa: SIM118
            return tensors, loads(opened.metadata()["state"])
    except FileNotFoundError:
        raise ZiaError(f"there is no checkpoint {path}") from None
    except (OSError, SafetensorError, ValueError) as error:
        raise ZiaError(f"the checkpoint {path} is damaged: {error}") from error


def _digest_position(file: BinaryIO) -> int:
    """Offset of the digest's 64 characters in the header, which follows 8 bytes of length."""
    file.seek(0)
    header_length = int.from_bytes(file.read(8), "little")
    if header_length > os.fstat(file.fileno()).st_size:
        raise ValueError("it is shorter than its header says")
    key_at = file.read(header_length).find(_DIGEST_KEY)
    if key_at < 0:
        raise ValueError("it has no SHA-256")
    return 8 + key_at + len(_DIGEST_KEY)


def _digest(file: BinaryIO, digest_at: int) -> bytes:
    """Hexadecimal SHA-256 of the file, with `_NO_DIGEST` in place of the digest."""
    file.seek(0)
    sha256 = hashlib.sha256(file.read(digest_at))
    sha256.update(_NO_DIGEST)
    file.seek(len(_NO_DIGEST), os.SEEK_CUR)
    while block := file.read(_BLOCK):
        sha256.update(block)
    return sha256.hexdigest().encode()
