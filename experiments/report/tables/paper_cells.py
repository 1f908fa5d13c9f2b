"""The paper's numbers in our tables, and their sources."""

from collections.abc import Iterator, Sequence
from math import nan

from experiments.report import formats
from experiments.report.document import Cell
from experiments.report.paper import PaperCell, PaperTable
from experiments.report.rows import Column


def shown_as(column: Column, cells: Sequence[PaperCell]) -> str:
    """Return the paper's number, in our format if the two are compared."""
    if not cells or cells[0].value is None:
        return formats.NOTHING
    return column.format(cells[0].value, nan) if column.compared else cells[0].printed


def sources(paper: PaperTable) -> str:
    """Name the sources of the paper's numbers, and the numbers that are from elsewhere."""
    if not paper.cells:
        return ""
    usual = (paper.cells[0].source, paper.cells[0].confidence)
    others: dict[tuple[str, str], list[str]] = {}
    for row in paper.rows():
        cells = [cell for cell in paper.cells if cell.row == row]
        origins = {(cell.source, cell.confidence) for cell in cells}
        if origins == {usual}:
            continue
        if len(origins) == 1:  # of a whole row: its numbers are in the table
            others.setdefault(origins.pop(), []).append(row)
            continue
        for cell in cells:
            if (cell.source, cell.confidence) != usual:
                found = others.setdefault((cell.source, cell.confidence), [])
                found.append(f"{row}, {cell.column}: {cell.printed}")
    text = f"The paper's numbers are from {usual[0]} (confidence {usual[1]})"
    if others:
        text += "; from elsewhere: " + "; ".join(
            f"{'; '.join(cells)} ({source}, confidence {confidence})"
            for (source, confidence), cells in others.items()
        )
    return text + "."


def paper_cells(paper: PaperTable) -> Iterator[Cell]:
    """Return the paper's numbers as cells."""
    for cell in paper.cells:
        yield Cell(
            source=f"paper, {cell.source}",
            row=cell.row,
            column=cell.column,
            mean=cell.value,
            unit=cell.unit,
            state="printed",
            confidence=cell.confidence,
            text=cell.printed,
        )
