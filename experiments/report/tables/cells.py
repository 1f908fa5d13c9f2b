"""Write all cells as one CSV, and explain a cell by its runs."""

from collections.abc import Iterator, Sequence
from typing import Any

from experiments.harness.registry import check_choice
from experiments.io.output import plain
from experiments.report import formats
from experiments.report.document import Cell, Document
from experiments.report.rows import SECTION
from zia_core.errors import ZiaError

ORDER = (
    "table", "source", *SECTION, "row", "method", "column", "mean", "std", "n", "planned", "unit",
    "difference", "state", "confidence", "runs",
)  # fmt: skip


def cells_csv(documents: Sequence[Document]) -> str:
    """Return one line per cell: the paper's as printed, ours with the runs behind it.

    `n` counts seeds, `difference` is ours minus the paper's. Numbers have ten digits.
    """
    import pandas as pd

    lines = [_line(document, cell) for document in documents for cell in document.cells]
    whole = dict.fromkeys(("n", "planned", "version"), "Int64")
    frame = pd.DataFrame(lines, columns=list(ORDER)).astype(whole)
    return plain(frame.to_csv(index=False, lineterminator="\n", float_format="%.10g"))


def _line(document: Document, cell: Cell) -> dict[str, Any]:
    fields = {name: getattr(cell, name) for name in ORDER if hasattr(cell, name)}
    done = [run.folder for run in cell.runs if run.state == "done"]
    return fields | {
        "table": document.name,
        "task": "+".join(cell.tasks),
        "runs": " ".join(done),
        **cell.key,
    }


def explain(document: Document, row: str, column: str) -> Iterator[str]:
    """Yield the cells in that row and column, each followed by the runs behind it.

    `row` is a method, the label of a row, or a row of the paper. InvalidChoiceError lists the rows
    or columns of the table.
    """
    table, cells = document.name, document.cells
    columns = list(dict.fromkeys(cell.column for cell in cells))
    check_choice("column", column, columns, of=f"the table {table}")
    rows = list(dict.fromkeys(name for cell in cells for name in (cell.method, cell.row) if name))
    check_choice("row", row, rows, of=f"the table {table}")
    found = [c for c in cells if c.column == column and row in (c.row, c.method)]
    if not found:
        raise ZiaError(f"the table {table} has nothing in row {row}, column {column}")
    for cell in found:
        place = ", ".join(f"{name} {value}" for name, value in cell.key.items())
        origin = cell.source + (f", confidence {cell.confidence}" if cell.confidence else "")
        yield f"{cell.row}, {cell.column}: {cell.text} ({origin}{place and ': ' + place})"
        for run in cell.runs:
            value = formats.NOTHING if run.value is None else f"{run.value:.10g} {cell.unit}"
            yield f"  {run.task}, seed {run.seed}: {run.state}, {value}, {run.folder}"
