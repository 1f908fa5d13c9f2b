"""Draw validation accuracy against the number of inserted layers (Table 4)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.report.figures import ablations, style
from experiments.report.figures.drawn import Drawn, stem, subtitle
from experiments.report.measured import measure
from experiments.report.rows import Section
from experiments.report.runs import Runs
from experiments.report.tables.definition import Table

if TYPE_CHECKING:
    from matplotlib.figure import Figure


PAPER_DEPTH = 32  # LLaMA-7B's layers


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each section with finished runs of known depth."""
    for table, section in ablations.sections_of(runs, "layers"):
        figure = _figure(table, section)
        if figure is not None:
            yield Drawn(stem("layers", table.experiment, section), figure)


def _figure(table: Table, section: Section) -> "Figure | None":
    depth = table.info.depth(section.runs[0])
    if depth is None:
        return None
    rows = sorted(section.begun, key=lambda row: int(row.settings["num_layers"]))
    places = [100 * int(row.settings["num_layers"]) / depth for row in rows]
    figure, panel = style.new(height=2.8)
    accuracy = table.column("validation accuracy")
    look = ablations.PAPER
    printed = ablations.printed(table, accuracy)
    panel.plot(
        [100 * layers / PAPER_DEPTH for layers, _ in printed], [value for _, value in printed],
        look.line, marker=look.marker, markersize=4, color=look.colour, label="the paper, LLaMA-7B",
    )  # fmt: skip
    drawn = [
        ablations.points(panel, places, [measure(row, column) for row in rows], look, label)
        for column, look, label in (
            (accuracy, ablations.GREEDY, "ours"),
            (table.column("likelihood accuracy"), ablations.LIKELIHOOD, "ours, by likelihood"),
        )
    ]
    if not any(drawn):
        return None
    panel.set_xlabel(f"inserted layers, % of the backbone's depth (ours: {depth})")
    panel.set_ylabel("validation accuracy (%)")
    panel.set_title(subtitle(section), fontsize=7.5)
    panel.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    panel.set_axisbelow(True)
    style.legend_below(figure, panel, 2)
    return figure
