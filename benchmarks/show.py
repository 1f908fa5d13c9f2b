"""Format a benchmark's JSON: its machine, and a table for each part.

Tables are Markdown for the README, or drawn for a terminal.
"""

import importlib
import statistics
from collections.abc import Mapping
from dataclasses import asdict
from textwrap import wrap
from typing import Any

from benchmarks.measure import Part

MIB = 2**20


def where(result: Mapping[str, Any]) -> str:
    """The machine, versions, code, and sizes that differ from the benchmark's own."""
    found = result["environment"]
    torch, git = found["torch"], found["git"]
    on_gpu = result["shape"].get("device", "cpu") != "cpu"
    threads = f"{torch['threads']} {'thread' if torch['threads'] == 1 else 'threads'}"
    machine = torch["gpus"][0] if on_gpu else f"{threads} of {_cpu(found)}"
    code = ""
    if git and git["sha"]:
        code = f", code {git['sha'][:7]}{' with changes' if git['dirty'] else ''}"
    changed = ", ".join(f"{size} {value}" for size, (value, _) in changed_sizes(result).items())
    sizes = f" Sizes other than the default: {changed}." if changed else ""
    return f"On {machine}, torch {torch['version']}{code}.{sizes}"


def changed_sizes(result: Mapping[str, Any]) -> dict[str, tuple[Any, Any]]:
    """The sizes that differ from the benchmark's defaults, with those defaults, by name."""
    shape: Any = importlib.import_module(f"benchmarks.{result['benchmark']}").Shape
    defaults = asdict(shape())
    both = {
        size: (_as_stored(value), _as_stored(defaults.get(size)))
        for size, value in result["shape"].items()
    }
    return {size: pair for size, pair in both.items() if pair[0] != pair[1]}


def _as_stored(value: Any) -> Any:
    """Convert tuples to lists, as JSON does."""
    return list(value) if isinstance(value, tuple) else value


def table(part: Part) -> str:
    """A part in Markdown: figures, median time, rate, and the ratio to the base's time."""
    head, rows = _cells(part)
    lines = [head, ["---", *["---:"] * (len(head) - 1)], *rows]
    return "".join(f"| {' | '.join(cells)} |\n" for cells in lines)


def drawing(part: Part) -> Any:
    """The same as a rich table; in 80 columns, headings and names wrap, but numbers do not."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table
    from rich.text import Text

    head, rows = _cells(part)
    drawn = Table(box=SIMPLE_HEAD, padding=(0, 0, 0, 1), pad_edge=False, show_edge=False)
    for heading, *cells in zip(head, *rows, strict=True):
        narrow = max(len(text) for text in [*cells, *heading.split(), "time /"])
        drawn.add_column(
            Text("\n".join(wrap(heading, narrow))),
            justify="right" if heading else "left",
            no_wrap=bool(heading),
            overflow="fold",
            vertical="bottom",
        )
    for row in rows:
        drawn.add_row(*map(Text, row))
    return drawn


def _cells(part: Part) -> tuple[list[str], list[list[str]]]:
    """Headings, the first one empty, and a row of texts for each contestant."""
    seconds, figures, base = part["seconds"], part["figures"], part["base"]
    columns = list(dict.fromkeys(column for of in figures.values() for column in of))
    head = ["", *(_heading(column) for column in columns)]
    if seconds:
        head += ["median ms", *(f"{unit}/s" for unit in part["work"]), f"time / {base}", "range"]
    rows = []
    for name in dict.fromkeys([*seconds, *figures]):
        cells = [name, *(_figure(column, figures.get(name, {}).get(column)) for column in columns)]
        if seconds:
            cells += _timed(part, name)
        rows.append(cells)
    return head, rows


def number(value: float) -> str:
    """Four significant digits, or a whole number, with thousands separators."""
    if isinstance(value, int) or abs(value) >= 1000:
        return f"{value:,.0f}"
    return f"{value:.4g}"


def _timed(part: Part, name: str) -> list[str]:
    if name not in part["seconds"]:
        return ["-"] * (3 + len(part["work"]))
    median = statistics.median(part["seconds"][name])
    ratio = part["ratios"][name][part["base"]]
    rates = [number(work / median) for work in part["work"].values()]
    spread = f"{ratio['min']:.3f}-{ratio['max']:.3f}"
    return [number(1000 * median), *rates, f"{ratio['median']:.3f}", spread]


def _heading(column: str) -> str:
    return column.removesuffix("bytes") + "MiB" if column.endswith("bytes") else column


def _figure(column: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value / MIB:,.1f}" if column.endswith("bytes") else number(value)


def _cpu(found: Mapping[str, Any]) -> str:
    return str((found.get("cpu") or {}).get("model") or "an unknown CPU")
