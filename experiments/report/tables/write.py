"""Write all tables."""

from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from experiments.harness.registry import check_choice
from experiments.io.files import check_output, write_atomic
from experiments.report.document import Document, markdown
from experiments.report.runs import Runs, read_runs
from experiments.report.tables import comparison, methods, side_by_side
from experiments.report.tables.cells import cells_csv
from experiments.report.tables.cells import explain as explain_cell
from experiments.report.tables.definition import Table
from experiments.report.tables.latex import latex
from experiments.report.tables.read import tables

CELLS = "cells.csv"


LAYOUTS: dict[str, Callable[[Table, Runs], Document]] = {
    "methods": methods.document,
    "side_by_side": side_by_side.document,
    "comparison": comparison.document,
}


def documents(roots: Sequence[Path], *, keep_going: bool = False) -> list[Document]:
    """Return every table.

    A run that is in several of the folders `roots` is taken from the first. ZiaError names a
    damaged run folder; with `keep_going` it is left out, which its tables say.
    """
    return made_of(read_runs(roots, keep_going=keep_going))


def document(name: str, runs: Runs) -> Document:
    """Return one table; InvalidChoiceError lists them."""
    known = {table.name: table for table in tables()}
    check_choice("table", name, known)
    return LAYOUTS[known[name].layout](known[name], runs)


def made_of(runs: Runs) -> list[Document]:
    """Return every table, from runs that were read before."""
    return [LAYOUTS[table.layout](table, runs) for table in tables()]


def write_tables(roots: Sequence[Path], out: Path, *, keep_going: bool = False) -> list[Path]:
    """Write every table as `<name>.md` and `.tex`, and all cells as `cells.csv`; return the paths.

    Equal runs give equal bytes.
    """
    check_output(out)
    # All are made before one is written, so that a damaged run leaves the old tables whole.
    return write_made(documents(roots, keep_going=keep_going), out)


def write_made(made: Sequence[Document], out: Path) -> list[Path]:
    """Write tables that were made before, as `write_tables` does."""
    texts = {
        f"{document.name}{suffix}": form(document)
        for document in made
        for suffix, form in ((".md", markdown), (".tex", latex))
    } | {CELLS: cells_csv(made)}
    out.mkdir(parents=True, exist_ok=True)
    for name, text in texts.items():
        write_atomic(out / name, text)
    return [out / name for name in texts]


def explain(
    roots: Sequence[Path], table: str, row: str, column: str, *, keep_going: bool = False
) -> Iterator[str]:
    """Yield the runs behind a cell, with their values."""
    return explain_cell(document(table, read_runs(roots, keep_going=keep_going)), row, column)
