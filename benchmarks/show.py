"""The Markdown of a benchmark's JSON: where it was measured, and a table for each part."""

import statistics
from collections.abc import Mapping
from typing import Any

from benchmarks.measure import Part

MIB = 2**20


def where(result: Mapping[str, Any]) -> str:
    """The machine, the versions and the code, in one sentence."""
    found = result["environment"]
    torch, git = found["torch"], found["git"]
    on_gpu = result["shape"].get("device", "cpu") != "cpu"
    machine = torch["gpus"][0] if on_gpu else f"{torch['threads']} threads of {_cpu(found)}"
    code = ""
    if git and git["sha"]:
        code = f", code {git['sha'][:7]}{' with changes' if git['dirty'] else ''}"
    return f"On {machine}, torch {torch['version']}{code}."


def table(part: Part) -> str:
    """One part: its figures, median time, rate, and the time over the base's."""
    seconds, figures, base = part["seconds"], part["figures"], part["base"]
    columns = list(dict.fromkeys(column for of in figures.values() for column in of))
    head = ["", *(_heading(column) for column in columns)]
    if seconds:
        head += ["median ms", *(f"{unit}/s" for unit in part["work"]), f"time / {base} (range)"]
    lines = [_line(head), _line(["---", *["---:"] * (len(head) - 1)])]
    for name in dict.fromkeys([*seconds, *figures]):
        cells = [name, *(_figure(column, figures.get(name, {}).get(column)) for column in columns)]
        if seconds:
            cells += _timed(part, name)
        lines.append(_line(cells))
    return "\n".join(lines) + "\n"


def number(value: float) -> str:
    """Four digits, or all of a whole number, with thousands apart."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _timed(part: Part, name: str) -> list[str]:
    if name not in part["seconds"]:
        return ["-"] * (2 + len(part["work"]))
    median = statistics.median(part["seconds"][name])
    ratio = part["ratios"][name][part["base"]]
    spread = f"{ratio['median']:.3f} ({ratio['min']:.3f} to {ratio['max']:.3f})"
    return [number(1000 * median), *(number(w / median) for w in part["work"].values()), spread]


def _heading(column: str) -> str:
    return column.removesuffix("bytes") + "MiB" if column.endswith("bytes") else column


def _figure(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / MIB:,.1f}" if column.endswith("bytes") else number(value)


def _line(cells: list[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _cpu(found: Mapping[str, Any]) -> str:
    return str((found.get("cpu") or {}).get("model") or "an unknown CPU")
