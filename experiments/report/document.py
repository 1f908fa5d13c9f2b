"""A finished table: grids of text under headings, and every number as a cell."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from experiments.io.output import plain
from experiments.report import formats

# Text columns besides the first; LaTeX aligns all others, which hold numbers, to the right.
TEXT = ("in the paper", "", "state")


@dataclass(frozen=True)
class Source:
    """A run behind a cell, with its value if it has one."""

    folder: str
    task: str
    seed: int
    state: str
    value: float | None


@dataclass(frozen=True)
class Cell:
    """One number, the paper's or ours, with its standard deviation over `n` seeds."""

    source: str  # "ours", or where in the paper
    row: str
    column: str
    mean: float | None
    unit: str
    state: str  # "printed", "done", "missing", ...
    key: dict[str, Any] = field(default_factory=dict)  # profile, backbone, ... of a Section
    method: str = ""
    tasks: tuple[str, ...] = ()
    std: float | None = None
    n: int | None = None
    planned: int | None = None
    difference: float | None = None
    confidence: str = ""
    text: str = ""
    runs: tuple[Source, ...] = ()


@dataclass(frozen=True)
class Grid:
    """A rectangle of text."""

    header: tuple[str, ...]
    lines: tuple[tuple[object, ...], ...]
    caption: str = ""


@dataclass(frozen=True)
class Part:
    """The grids of one section, with their notes."""

    grids: tuple[Grid, ...]
    title: str = ""
    notes: tuple[str, ...] = ()
    key: dict[str, Any] = field(default_factory=dict)  # of the section


@dataclass(frozen=True)
class Document:
    """A table, written as `<name>.md` and `<name>.tex`, with its cells in `cells.csv`."""

    name: str
    title: str
    intro: str
    parts: tuple[Part, ...]
    sources: str
    cells: tuple[Cell, ...]
    damaged: tuple[str, ...] = ()  # a sentence for each run that was left out


def markdown(document: Document) -> str:
    """Return the document as GitHub Markdown."""
    return plain("\n".join(_blocks(document)))


def _blocks(document: Document) -> Iterator[str]:
    yield f"# {document.title}\n"
    yield document.intro + "\n"
    for part in document.parts:
        if part.title:
            yield f"## {part.title}\n"
        for grid in part.grids:
            if grid.caption:
                yield f"### {grid.caption}\n"
            yield formats.markdown_table(grid.header, grid.lines)
        if part.notes:
            yield "".join(f"- {note}\n" for note in part.notes)
    yield document.sources + "\n"
    if document.damaged:
        yield "Left out, because damaged:\n"
        yield "".join(f"- {formats.one_line(sentence)}\n" for sentence in document.damaged)
