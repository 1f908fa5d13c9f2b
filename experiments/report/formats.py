"""Format numbers, settings and Markdown tables."""

from collections.abc import Callable, Sequence
from math import isnan, nan

from experiments.harness.registry import check_choice

NOTHING = "-"  # not measured, or not in the paper
Form = Callable[[float, float], str]  # of a mean and its standard deviation, NaN for one seed

# Unit, its seconds, and the number of seconds from which it is used.
TIME_UNITS = (("h", 3600.0, 7200.0), ("min", 60.0, 120.0), ("s", 1.0, 0.0))


def number(mean: float, std: float) -> str:
    """Return "1.998 ± 0.012", or "1.998" for a single seed."""
    return _spread(mean, std, ",.3f")


def decimals(places: int) -> Form:
    """Return the format with this many decimals."""

    def fixed(mean: float, std: float) -> str:
        return _spread(mean, std, f".{places}f")

    return fixed


def rate(mean: float, std: float) -> str:
    """Return "1,230 ± 12"."""
    return _spread(mean, std, ",.0f")


def count(mean: float, std: float) -> str:
    """Return "1,229,760"."""
    return _spread(mean, 0.0 if isnan(std) else std, ",.0f").removesuffix(" ± 0")


def storage(mean: float, std: float) -> str:
    """Return bytes in both units: the paper gives the size of one file as 4.7M and as 4.9M."""
    return f"{mean / 1e6:.2f} MB ({mean / 2**20:.2f} MiB)" if mean > 0 else NOTHING


def memory(mean: float, std: float) -> str:
    """Return bytes in GB (1e9 bytes)."""
    return _spread(mean / 1e9, std / 1e9, ".2f", " GB")


def duration(mean: float, std: float) -> str:
    """Return seconds in a readable unit, as "4.20 ± 0.10 min"."""
    if not mean > 0:  # a method without training
        return NOTHING
    unit, seconds = next((unit, size) for unit, size, start in TIME_UNITS if mean >= start)
    return _spread(mean / seconds, std / seconds, ".2f", f" {unit}")


FORMATS = {form.__name__: form for form in (number, count, rate, storage, memory, duration)}


def named(name: str | int, where: str) -> Form:
    """Return the format of that name, or with that many decimals."""
    if isinstance(name, int):
        return decimals(name)
    check_choice("format", name, FORMATS, of=where)
    return FORMATS[name]


def difference(value: float, form: Form) -> str:
    """Return a signed difference in the format of its terms."""
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
    """Return the value of a setting as text."""
    if isinstance(value, (list, tuple)):
        return "(" + ", ".join(setting(item) for item in value) + ")"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return str(float(f"{value:.12g}"))  # 3e-4, not 0.00030000000000000003
    return "none" if value is None else str(value)


def markdown_table(header: Sequence[object], rows: Sequence[Sequence[object]]) -> str:
    """Return a Markdown table."""
    lines = [header, ["---"] * len(header), *rows]
    return "".join("| " + " | ".join(map(one_line, line)) + " |\n" for line in lines)


def one_line(text: object) -> str:
    """Return a text on one line, with its bars escaped for a Markdown cell."""
    return " ".join(str(text).split()).replace("|", "\\|")
