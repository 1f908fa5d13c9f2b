"""Values checked against the annotation of a field: settings, stored configs, results.

Annotations may be int, float, bool, str, Literal, tuple[X, ...], tuple[X, Y] and X | None of these.
"""

import math
import types
from collections.abc import Mapping
from typing import Any, Literal, Union, get_args, get_origin

from zia_core.errors import ZiaError


def conform(annotation: Any, value: object, where: str) -> Any:
    """Return `value` in the one form of its annotation: floats as float, lists as tuples.

    So 1 and 1.0 are one value of a float field. A bool is no number, NaN and infinity are refused;
    the ZiaError begins with `where`.
    """
    kind = _without_none(annotation)
    if value is None and kind is not annotation:
        return None
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        if value in arguments and type(value) in map(type, arguments):
            return value
    elif origin is tuple:
        if isinstance(value, (list, tuple)):
            kinds = _element_kinds(arguments, len(value))
            if len(kinds) == len(value):
                items = enumerate(zip(kinds, value, strict=True))
                return tuple(conform(kind, item, f"{where}[{i}]") for i, (kind, item) in items)
    elif kind is float:
        if isinstance(value, (int, float)) and type(value) is not bool and math.isfinite(value):
            return float(value) + 0.0  # -0.0 becomes 0.0
    elif type(value) is kind:
        return value
    raise ZiaError(f"{where} must be {describe(annotation)}, not {value!r:.60}")


def parse(annotation: Any, text: str, where: str) -> Any:
    """Return the value that `text` (of `--set key=value`) means for a field so annotated.

    Tuples are separated by commas; "none" is None where the field allows it.
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
            value = [parse(kind, item, where) for kind, item in zip(kinds, items, strict=True)]
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
    """Return the values of all annotated fields, each in its one form; extra keys are dropped."""
    missing = [name for name in annotations if name not in values]
    if missing:
        raise ZiaError(f"{where} lacks {', '.join(missing)}")
    return {
        name: conform(kind, values[name], f"{where}: {name}") for name, kind in annotations.items()
    }


def describe(annotation: Any) -> str:
    """Return the annotation as a phrase of an error message: "a number or none"."""
    kind = _without_none(annotation)
    if kind is not annotation:
        return f"{describe(kind)} or none"
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is Literal:
        return "one of " + ", ".join(map(str, arguments))
    if origin is tuple:
        length = "" if Ellipsis in arguments else f"{len(arguments)} of "
        return f"a list of {length}{describe(arguments[0])}"
    names = {int: "a whole number", float: "a finite number", bool: "true or false", str: "a text"}
    return names.get(annotation, getattr(annotation, "__name__", str(annotation)))


def _without_none(annotation: Any) -> Any:
    if get_origin(annotation) not in (Union, types.UnionType):
        return annotation
    kinds = [kind for kind in get_args(annotation) if kind is not types.NoneType]
    if len(kinds) != 1:
        raise TypeError(f"a field may be X or X | None, not {annotation}")
    return kinds[0]


def _element_kinds(arguments: tuple[Any, ...], length: int) -> tuple[Any, ...]:
    return (arguments[0],) * length if arguments[1:] == (Ellipsis,) else arguments
