"""What the figures of ablation tables share: sections, the paper's points and ours."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.report.figures import style
from experiments.report.measured import Measured
from experiments.report.rows import Column, Section
from experiments.report.runs import Runs
from experiments.report.tables.definition import Table
from experiments.report.tables.read import tables

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER = style.Look("#000000", "s", "--")
GREEDY = style.look("zero-init")
LIKELIHOOD = style.Look("#0072B2", "^", "-.")


def sections_of(runs: Runs, figure: str) -> Iterator[tuple[Table, Section]]:
    """Yield the sections that have runs, of each table with this figure."""
    for table in tables():
        if table.figure == figure:
            yield from ((table, section) for section in table.sections(runs) if section.key)


def paper_rows(table: Table) -> list[float]:
    """Return the paper's rows that are numbers, as of layers or epochs."""
    return [float(row) for row in (table.paper.rows() if table.paper else []) if row.isdecimal()]


def printed(table: Table, column: Column) -> list[tuple[float, float]]:
    """Return the paper's points: the number that a row is, and the value in the column."""
    cells = table.paper.cells if table.paper else ()
    found: dict[float, float] = {}
    for cell in cells:  # of two values, the first is compared
        if cell.column == column.title and cell.row.isdecimal() and cell.value is not None:
            found.setdefault(float(cell.row), cell.value)
    return list(found.items())


def points(
    panel: "Axes", places: Sequence[float], found: Sequence[Measured], look: style.Look, label: str
) -> bool:
    """Draw means at `places`, hollow if a seed was not trained, and seeds as dots.

    Returns whether there was anything to draw.
    """
    pairs = [(x, one) for x, one in zip(places, found, strict=True) if one.mean is not None]
    if not pairs:
        return False
    for x, one in pairs:
        seeds = list(one.values.values())
        panel.plot([x] * len(seeds), seeds, ".", color=look.colour, markersize=3, alpha=0.6)
    means = [float(one.mean or 0) for _, one in pairs]
    panel.plot([x for x, _ in pairs], means, look.line, color=look.colour)
    for trained in (True, False):
        at = [(x, y) for (x, one), y in zip(pairs, means, strict=True)
              if (one.state == "done") is trained]  # fmt: skip
        if at:
            panel.plot(
                *zip(*at, strict=True), look.marker, color=look.colour, markersize=5,
                markerfacecolor=look.colour if trained else "white",
                label=label + ("" if trained else " (not trained)"),
            )  # fmt: skip
    return True
