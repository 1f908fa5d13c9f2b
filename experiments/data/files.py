"""Find official files in $ZIA_DATA and read them, plain or gzip."""

import gzip
import json
import os
import zlib
from pathlib import Path
from typing import Any

from zia_core.errors import ZiaError
from zia_core.strict_json import loads

DATA_VARIABLE = "ZIA_DATA"


def official_file(name: str) -> Path | None:
    """Return `$ZIA_DATA/<name>` or `$ZIA_DATA/<name>.gz`; None if neither exists."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return None
    candidates = [Path(folder, name), Path(folder, f"{name}.gz")]
    return next((path for path in candidates if path.exists()), None)


def where_looked(name: str) -> str:
    """Return, for an error message, where `official_file(name)` looked."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        return f"${DATA_VARIABLE} is not set"
    return f"{Path(folder, name)}[.gz] does not exist (${DATA_VARIABLE})"


def read_text(path: Path) -> str:
    """Return the UTF-8 text of a file, unpacked if its name ends in .gz.

    ZiaError if it cannot be read, is damaged, cut off or empty, or is not UTF-8.
    """
    try:
        content = path.read_bytes()
        if path.suffix == ".gz":
            content = gzip.decompress(content)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ZiaError(f"{path} is not a complete gzip file ({error}): fetch it again") from error
    except OSError as error:
        raise ZiaError(f"cannot read {path}: {error.strerror}") from error
    try:
        text = content.decode("utf-8")
    except UnicodeDecodeError as error:
        raise ZiaError(
            f"{path} is not UTF-8 text (byte {error.start}): convert it to UTF-8 or fetch it again"
        ) from error
    if not text.strip():
        raise ZiaError(f"{path} is empty: fetch it again")
    return text


def parse_json(text: str, where: str) -> Any:
    """Return the value of a JSON text; a ZiaError begins with `where` and names line and column."""
    try:
        return loads(text)
    except ValueError as error:
        said: object = error
        if isinstance(error, json.JSONDecodeError):
            said = f"line {error.lineno}, column {error.colno}: {error.msg}"
        raise ZiaError(
            f"{where} is not valid JSON ({said}): repair it or fetch it again"
        ) from error


def text_field(record: object, field: str, where: str) -> str:
    """Return `record[field]`, which must be a string; a ZiaError begins with `where`."""
    if not isinstance(record, dict):
        raise ZiaError(f"{where} must be a JSON object, not {_kind(record)}")
    if field not in record:
        raise ZiaError(f"{where} has no field {field!r}: it needs one, with a text")
    value = record[field]
    if not isinstance(value, str):
        raise ZiaError(f"{where}: {field!r} must be a text, not {_kind(value)}")
    try:
        value.encode()
    except UnicodeEncodeError as error:  # a lone surrogate, which JSON can write and UTF-8 cannot
        raise ZiaError(f"{where}: {field!r} is not valid Unicode ({error.reason})") from error
    return value


def _kind(value: object) -> str:
    names = {dict: "an object", list: "a list", str: "a text", bool: "true or false"}
    return names.get(type(value), "null" if value is None else "a number")
