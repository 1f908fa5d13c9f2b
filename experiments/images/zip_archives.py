"""Read images from a zip file."""

import zipfile
import zlib
from pathlib import Path

from zia_core.errors import ZiaError


def open_archive(path: Path) -> zipfile.ZipFile:
    """Open a zip file; ZiaError if it is missing or damaged."""
    try:
        return zipfile.ZipFile(path)
    except (OSError, zipfile.BadZipFile) as error:
        raise ZiaError(f"cannot read the images in {path} ({error}): fetch it again") from error


def member(archive: zipfile.ZipFile, name: str) -> bytes:
    """The file `name` in an archive; ZiaError if it is missing or damaged."""
    try:
        return archive.read(name)
    except KeyError as error:
        raise ZiaError(f"{archive.filename} has no image {name}: fetch it again") from error
    except (OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ZiaError(
            f"the image {name} of {archive.filename} is damaged ({error}): fetch it again"
        ) from error
