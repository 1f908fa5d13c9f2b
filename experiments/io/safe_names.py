"""Names that come from outside: from an archive, a list, a JSON file, a seal.

Whoever joins such a name to a folder asks here first, for `folder / "/etc/passwd"` is no file of
the folder, and `folder / "images/../../x"` neither.
"""

import re
from pathlib import Path

from zia_core.errors import ZiaError

DRIVE = re.compile(r"[A-Za-z]:")


def is_plain(name: object) -> bool:
    """Whether `name` is a relative path of plain parts, on every system: no `..`, no `C:`, no `\\`.

    Parts are separated by single slashes; a part of dots alone is none, and control characters,
    which would break a list of names, are in none.
    """
    if not isinstance(name, str) or "\\" in name or DRIVE.match(name):
        return False
    return all(part.strip(". ") and part.isprintable() for part in name.split("/"))


def is_file_name(name: object) -> bool:
    """Whether `name` is plain and has no folder."""
    return is_plain(name) and "/" not in str(name)


def inside(folder: Path, name: object, source: object) -> Path:
    """Return the path of `name` in `folder`, which need not exist; the folder may be a link itself.

    Raises:
        ZiaError: `name` is not plain (see `is_plain`), or it leads over a link; the sentence says
            that `source` names it.
    """
    if not is_plain(name):
        raise ZiaError(
            f"{source} names {name!r:.80}, which is no file inside {folder}: names must be "
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
