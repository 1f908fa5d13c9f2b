"""What the figures of ScienceQA's ablations have in common."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.report.figures import style
from experiments.report.measured import Measured
from experiments.report.rows import Section
from experiments.report.runs import Runs
from experiments.report.tables.ablations import TABLES

if TYPE_CHECKING:
    from matplotlib.axes import Axes

PAPER = style.Look("#000000", "s", "--")
GREEDY = style.look("zero-init")
LIKELIHOOD = style.Look("#0072B2", "^", "-.")


def sections_of(runs: Runs, name: str) -> list[Section]:
    """Return the sections of the table `name`, with its lines as rows in the table's order."""
    [table] = [table for table in TABLES if table.name == name]
    return [section for section in table.sections(runs) if section.key]


def points(
    panel: "Axes", places: Sequence[float], found: Sequence[Measured], look: style.Look, label: str
) -> bool:
    """Draw means at `places` with their seeds as dots, hollow where a seed was not trained.

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
