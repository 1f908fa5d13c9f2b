"""Numbers, settings and tables as text. A number comes with its standard deviation over seeds."""

from collections.abc import Callable, Sequence
from math import isnan, nan

from experiments.harness.registry import check_choice

NOTHING = "-"  # not measured, or not in the paper

# Unit, its seconds, and the number of seconds from which it is used.
TIME_UNITS = (("h", 3600.0, 7200.0), ("min", 60.0, 120.0), ("s", 1.0, 0.0))


def number(mean: float, std: float) -> str:
    """Return "1.998 ± 0.012"; the deviation of a single seed (NaN) is left out."""
    return _spread(mean, std, ",.3f")


def decimals(places: int) -> Callable[[float, float], str]:
    """Return a format with so many decimals, for numbers that the paper prints with so many."""

    def fixed(mean: float, std: float) -> str:
        return _spread(mean, std, f".{places}f")

    return fixed


def rate(mean: float, std: float) -> str:
    """Return a large number without decimals."""
    return _spread(mean, std, ",.0f")


def count(mean: float, std: float) -> str:
    """Return "1,229,760"."""
    return _spread(mean, 0.0 if isnan(std) else std, ",.0f").removesuffix(" ± 0")


def storage(mean: float, std: float) -> str:
    """Return bytes in both units, since the paper prints one file as 4.7M and as 4.9M."""
    return f"{mean / 1e6:.2f} MB ({mean / 2**20:.2f} MiB)" if mean > 0 else NOTHING


def memory(mean: float, std: float) -> str:
    """Return bytes as GB = 1e9 bytes."""
    return _spread(mean / 1e9, std / 1e9, ".2f", " GB")


def duration(mean: float, std: float) -> str:
    """Return seconds, in a unit in which they are not a large number."""
    if not mean > 0:  # a method without training
        return NOTHING
    unit, seconds = next((unit, size) for unit, size, start in TIME_UNITS if mean >= start)
    return _spread(mean / seconds, std / seconds, ".2f", f" {unit}")


FORMATS = {form.__name__: form for form in (number, count, rate, storage, memory, duration)}


def named(name: str | int, where: str) -> Callable[[float, float], str]:
    """Return the format of that name, or with so many decimals."""
    if isinstance(name, int):
        return decimals(name)
    check_choice("format", name, FORMATS, of=where)
    return FORMATS[name]


def difference(value: float, form: Callable[[float, float], str]) -> str:
    """Return a difference with its sign, rounded as `form` rounds its two numbers."""
    text = form(value, nan)
    if not text.strip("-0."):
        return text.removeprefix("-")
    return text if text.startswith("-") else f"+{text}"


def seeds(n: int, planned: int | None) -> str:
    """Return "5", or "3 of 5" while runs are missing."""
    return str(n) if planned is None or planned <= n else f"{n} of {planned}"


def _spread(mean: float, std: float, decimals: str, unit: str = "") -> str:
    if isnan(mean):
        return NOTHING
    return f"{mean:{decimals}}" + ("" if isnan(std) else f" ± {std:{decimals}}") + unit


def setting(value: object) -> str:
    """Return the value of a setting as a reader writes it."""
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(setting(item) for item in value) + ")"
    if isinstance(value, bool):
        return "yes" if value else "no"
    return "none" if value is None else str(value)


def markdown_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(one_line, line)) + " |\n" for line in lines)


def one_line(text: object) -> str:
    """Return a text without line breaks, and with bars that do not end a cell."""
    return " ".join(str(text).split()).replace("|", "\\|")
