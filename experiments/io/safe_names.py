"""Check names from archives, lists and JSON files before they are joined to a folder.

Neither `folder / "/etc/passwd"` nor `folder / "images/../../x"` is a file in the folder.
"""

import re
from pathlib import Path

from zia_core.errors import ZiaError

DRIVE = re.compile(r"[A-Za-z]:")


def is_plain(name: object) -> bool:
    """Whether `name` is a relative path on every system, without `..`, `C:` and `\\`.

    Parts are separated by single slashes, are not dots alone, and have no control characters, which
    would break a list of names.
    """
    if not isinstance(name, str) or "\\" in name or DRIVE.match(name):
        return False
    return all(part.strip(". ") and part.isprintable() for part in name.split("/"))


def is_file_name(name: object) -> bool:
    """Whether `name` is plain and a single part."""
    return is_plain(name) and "/" not in str(name)


def inside(folder: Path, name: object, source: object) -> Path:
    """Return the path of `name` in `folder`; it need not exist. The folder itself may be a link.

    Raises:
        ZiaError: `name` is not plain (see `is_plain`) or passes through a link; names `source`.
    """
    if not is_plain(name):
        raise ZiaError(
            f"{source} names {name!r:.80}, which is not a file inside {folder}: names must be "
            "relative, without .., drive letters and backslashes"
        )
    path = folder
    for part in str(name).split("/"):
        path /= part
        if path.is_symlink():
            raise ZiaError(
                f"{source} names {name!r:.80}, but {path} is a link: put the file itself there"
            )
    return path
