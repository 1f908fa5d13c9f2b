"""Check values against field annotations: settings, configs, results, stored records.

Annotations may be int, float, bool, str, dict, list, Literal, tuple[X, ...], tuple[X, Y], list[X],
dict[str, X], unions of these and None, or a TypedDict, whose extra keys are not checked.
"""

import math
import types
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cache
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints, is_typeddict

from zia_core.errors import ZiaError

_kinds_of = cache(get_type_hints)  # of records that are read by the thousand


def conform(annotation: Any, value: object, where: str) -> Any:
    """Return `value` in the canonical form of its annotation.

    A number in a float field becomes a float, a list in a tuple field a tuple.

    Raises:
        ZiaError: another type; a bool is not a number, and NaN and infinity are refused. The
            message starts with `where`.
    """
    kind = _without_none(annotation)
    if annotation is Any or (value is None and kind is not annotation):
        return value
    origin, arguments = get_origin(kind), get_args(kind)
    if origin in (Union, types.UnionType):
        for each in arguments:
            with suppress(ZiaError):
                return conform(each, value, where)
    elif origin is Literal:
        if value in arguments and type(value) in map(type, arguments):
            return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            kinds = _element_kinds(arguments, len(value))
            if len(kinds) == len(value):
                items = enumerate(zip(kinds, value, strict=True))
                return tuple(conform(kind, item, f"{where}[{i}]") for i, (kind, item) in items)
    elif origin is list:
        if isinstance(value, list):
            return [conform(arguments[0], item, f"{where}[{i}]") for i, item in enumerate(value)]
    elif origin is dict:
        if isinstance(value, dict):
            return {
                name: conform(arguments[1], item, f"{where}.{name!s:.60}")
                for name, item in value.items()
            }
    elif is_typeddict(kind):
        if isinstance(value, dict):
            return _conform_record(kind, value, where)
    elif kind is float:
        if isinstance(value, (int, float)) and type(value) is not bool and _is_finite(value):
            return float(value) + 0.0  # -0.0 becomes 0.0
    elif kind in (dict, list):
        if isinstance(value, kind):
            return value
    elif type(value) is kind:
        return value
    raise ZiaError(f"{where} must be {describe(annotation)}, not {value!r:.60}")


def _is_finite(value: float) -> bool:
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer too large for a float
        return False


def _conform_record(kind: Any, value: dict[str, Any], where: str) -> dict[str, Any]:
    kinds = _kinds_of(kind)
    needed = kind.__required_keys__
    looked_at = {name: of for name, of in kinds.items() if name in needed or name in value}
    return value | conform_fields(looked_at, value, where)


class Record(dict[str, Any]):
    """A JSON object from a file; a missing field raises a ZiaError that names the file."""

    def __init__(self, fields: Mapping[str, Any], path: object, line: int | None = None) -> None:
        super().__init__(fields)
        self._place = path, line

    @property
    def where(self) -> str:
        """File and line, for messages."""
        path, line = self._place
        return str(path) if line is None else f"{path}, line {line}"

    def __missing__(self, name: str) -> Any:
        raise ZiaError(f"{self.where} has no {name!r}: restore or delete the file")


def records(
    lines: Iterable[Mapping[str, Any]], kinds: Mapping[str, Any], path: object
) -> list[Record]:
    """Return the lines of `path` as records, after checking the fields named in `kinds`.

    Values are not converted.

    Raises:
        ZiaError: a field has another type; names the line.
    """
    found = [Record(fields, path, number) for number, fields in enumerate(lines, start=1)]
    for record in found:
        for name, kind in kinds.items():
            if name in record and type(record[name]) is not kind:
                conform(kind, record[name], f"{record.where}: {name}")
    return found


def parse(annotation: Any, text: str, where: str) -> Any:
    """Parse the text of `--set key=value` for a field with this annotation.

    Tuple items are separated by commas; "none" is None if the field allows it.

    Raises:
        ZiaError: the text is not of this type; the message starts with `where`.
    """
    kind = _without_none(annotation)
    if kind is not annotation and text.lower() == "none":
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    value: object = text
    if origin is tuple:
        items = [item.strip() for item in text.split(",")] if text.strip() else []
        kinds = _element_kinds(arguments, len(items))
        if len(kinds) == len(items):
            one = f"{where} (items separated by commas)"
            value = [parse(kind, item, one) for kind, item in zip(kinds, items, strict=True)]
    elif origin is Literal:
        value = {str(choice): choice for choice in arguments}.get(text, text)
    elif kind is bool:
        value = {"true": True, "false": False}.get(text.lower(), text)
    elif kind in (int, float):
        try:
            value = kind(text)
        except ValueError:
            value = text
    return conform(annotation, value, where)


def conform_fields(
    annotations: Mapping[str, Any], values: Mapping[str, object], where: str
) -> dict[str, Any]:
    """Return the values of all annotated fields in canonical form; extra keys are dropped.

    Raises:
        ZiaError: a field is missing or has another type; the message starts with `where`.
    """
    missing = [name for name in annotations if name not in values]
    if missing:
        raise ZiaError(f"{where} lacks {', '.join(missing)}")
    return {
        name: conform(kind, values[name], f"{where}: {name}") for name, kind in annotations.items()
    }


NAMES = {
    int: "a whole number",
    float: "a finite number",
    bool: "true or false",
    str: "a text",
    dict: "an object",
    list: "a list",
}


def describe(annotation: Any) -> str:
    """Describe an annotation for an error message: "a finite number or none"."""
    kind = _without_none(annotation)
    if kind is not annotation:
        return f"{describe(kind)} or none"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        length = "" if Ellipsis in arguments else f"{len(arguments)} of "
        return f"a list of {length}{describe(arguments[0])}"
    if origin in (Union, types.UnionType):
        return " or ".join(map(describe, arguments))
    if origin is list:
        return f"a list of {describe(arguments[0])}"
    if origin is dict:
        return f"an object with {describe(arguments[1])} for each name"
    if is_typeddict(annotation):
        return "an object"
    return NAMES.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
    return annotation if len(kinds) == len(get_args(annotation)) else Union[tuple(kinds)]  # noqa: UP007


def _element_kinds(arguments: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return (arguments[0],) * length if arguments[1:] == (Ellipsis,) else arguments
