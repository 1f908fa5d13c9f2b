"""Read the paper's numbers, transcribed as printed (arXiv 2303.16199; v3 is ICLR 2024).

One JSON file per table has `title`, `conditions`, `cells`, and `defaults` of its cells. A number
that the paper prints in two ways is there twice: our tables show the first, and the others below.

Confidence: A read in the authors' pdf or code; B in a machine conversion of the published text,
whose arithmetic is right; B- the same, where nothing could be checked; C second hand; I inferred
from A and B; D from memory.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_type_hints

from experiments.io.files import read_json
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields


@dataclass(frozen=True)
class PaperCell:
    """One number of a table; `value` is None where the paper prints "-"."""

    row: str
    column: str
    value: float | None
    unit: str  # as printed: the M of 4.7M is MiB, that of 4.9M is MB
    version: str
    source: str
    confidence: Literal["A", "B", "B-", "C", "I", "D"]

    @property
    def printed(self) -> str:
        """The cell as the paper prints it: "4.7M", "1.5 hours"."""
        if self.value is None:
            return "-"
        return f"{self.value:g}{'' if len(self.unit) < 2 else ' '}{self.unit}"


@dataclass(frozen=True)
class PaperTable:
    """A table of the paper, with the conditions of its numbers."""

    title: str
    conditions: str
    cells: tuple[PaperCell, ...]

    def rows(self) -> list[str]:
        """Return the rows in the paper's order."""
        return list(dict.fromkeys(cell.row for cell in self.cells))

    def columns(self) -> list[str]:
        """Return the columns in the paper's order."""
        return list(dict.fromkeys(cell.column for cell in self.cells))

    def find(self, row: str | None, column: str) -> list[PaperCell]:
        """Return the paper's numbers there, the one to compare with first."""
        return [cell for cell in self.cells if (cell.row, cell.column) == (row, column)]


def names() -> list[str]:
    """Return the names of all tables."""
    return sorted(path.stem for path in Path(__file__).parent.glob("*.json"))


def paper_table(stored: str | dict[str, Any], where: str = "") -> PaperTable:
    """Return the table in `<name>.json`, or in an object of that form from the file `where`.

    ZiaError if there is none or a cell is not well formed.
    """
    if isinstance(stored, str):
        path = Path(__file__).with_name(f"{stored}.json")
        stored, where = read_json(path), str(path)
    table = conform_fields(
        {"title": str, "conditions": str, "defaults": dict, "cells": list},
        {"defaults": {}} | stored,
        where,
    )
    kinds = get_type_hints(PaperCell)
    defaults = table.pop("defaults")
    cells = []
    for number, cell in enumerate(table.pop("cells")):
        place = f"{where}, cell {number}"
        if not isinstance(cell, dict):
            raise ZiaError(f"{place} must be a JSON object with {', '.join(kinds)}")
        cells.append(PaperCell(**conform_fields(kinds, defaults | cell, place)))
    return PaperTable(**table, cells=tuple(cells))
