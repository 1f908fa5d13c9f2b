"""Draw the matrix of claims by profiles: a coloured cell with a sign and the word."""

from collections.abc import Iterator, Sequence
from math import ceil
from typing import TYPE_CHECKING, Any

from experiments.report.claims.matrix import LOOKS, Line, matrix, profiles_of
from experiments.report.claims.results import results_of
from experiments.report.figures import style
from experiments.report.figures.drawn import Drawn, flat
from experiments.report.runs import Runs
from experiments.report.statistics import NO_RUNS

if TYPE_CHECKING:
    from matplotlib.figure import Figure

NAME = "verdicts"
ABREAST = 2  # blocks of lines
LINE = 0.2  # inches
TITLES, CELL = 3.1, 1.36  # widths of a block's columns, in any unit


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield the matrix, if a claim has runs."""
    results = results_of(runs)
    if lines := matrix(results):
        yield Drawn(NAME, _figure(lines, profiles_of(results)))


def _figure(lines: Sequence[Line], profiles: Sequence[str]) -> "Figure":
    height = ceil(len(lines) / ABREAST)
    figure, panels = style.new(width=2 * style.COLUMN, height=LINE * (height + 1.2), ncols=ABREAST)
    for place, panel in enumerate(flat(panels)):
        _block(panel, lines[place * height : (place + 1) * height], profiles, height)
    return figure


def _block(panel: Any, lines: Sequence[Line], profiles: Sequence[str], height: int) -> None:
    from matplotlib.patches import Rectangle

    panel.set_xlim(0, TITLES + CELL * len(profiles))
    panel.set_ylim(height, -1)
    panel.set_axis_off()
    for column, profile in enumerate(profiles if lines else ()):
        middle = TITLES + CELL * (column + 0.5)
        panel.text(middle, -0.4, profile, ha="center", va="center", fontweight="bold")
        for down, line in enumerate(lines):
            verdict = line.verdict(profile)
            look = LOOKS[verdict]
            corner = (TITLES + CELL * column + 0.03, down + 0.04)
            panel.add_patch(
                Rectangle(corner, CELL - 0.06, 0.92, facecolor=look.ground, linewidth=0)
            )
            panel.text(
                middle, down + 0.5, look.sign if verdict == NO_RUNS else f"{look.sign} {verdict}",
                ha="center", va="center_baseline", color=look.ink, fontsize=6.1,
            )  # fmt: skip
    for down, line in enumerate(lines):
        panel.text(0, down + 0.5, line.claim.title, va="center_baseline", fontsize=7.2)
