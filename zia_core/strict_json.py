"""Strict JSON for untrusted files: refuse what Python's own reader accepts."""

import json
import math
from typing import Any, NoReturn

MOST_DIGITS = 40  # of a whole number; no hash or generator state has more
MOST_DEPTH = 100  # of nested brackets; our files have fewer than ten


def loads(text: str | bytes) -> Any:
    """Parse a JSON text.

    Raises:
        ValueError: it is invalid, has a number that no float can hold (NaN, infinity, thousands of
            digits), or is nested so deeply that recursive code would fail.
    """
    try:
        value = json.loads(text, parse_constant=_refused, parse_int=_whole, parse_float=_finite)
    except RecursionError:
        raise ValueError("its brackets are nested too deeply") from None
    brackets = ("[", "{") if isinstance(text, str) else (b"[", b"{")
    if sum(map(text.count, brackets)) > MOST_DEPTH and _is_deep(value):  # type: ignore[arg-type]
        raise ValueError("its brackets are nested too deeply")
    return value


def _refused(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _whole(digits: str) -> int:
    if len(digits) > MOST_DIGITS:
        raise ValueError(f"a whole number of {len(digits)} digits")
    return int(digits)


def _finite(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text:.40} is too large for a number")
    return value


def _is_deep(value: Any) -> bool:
    """Whether containers are nested more than `MOST_DEPTH` deep, without recursion."""
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [
            inner
            for each in level
            if isinstance(each, dict | list)
            for inner in (each.values() if isinstance(each, dict) else each)
            if isinstance(inner, dict | list)
        ]
        if not level:
            return False
    return True
