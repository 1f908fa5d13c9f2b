"""Draw losses and validation accuracy against the epochs of a training (Table 6)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.report.figures import ablations, style
from experiments.report.figures.drawn import Drawn, stem, subtitle
from experiments.report.measured import measure
from experiments.report.rows import Row, Section
from experiments.report.runs import Runs
from experiments.report.tables.definition import Table

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

CURVES = (  # panel, column, look, what it is
    (0, "training loss", style.Look("#009E73", "v", "--"), "training loss"),
    (0, "validation loss", style.Look("#CC79A7", "D"), "validation loss"),
    (1, "validation accuracy", ablations.GREEDY, "accuracy"),
    (1, "likelihood accuracy", ablations.LIKELIHOOD, "accuracy by likelihood"),
)


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each section with finished runs: the paper left, ours right."""
    for table, section in ablations.sections_of(runs, "overfitting"):
        rows = sorted((row for row in section.begun if row.done), key=lambda row: _epochs(row))
        if rows:
            yield Drawn(
                stem("overfitting", table.experiment, section), _figure(table, section, rows)
            )


def _epochs(row: Row) -> float:
    return float(row.settings["epochs"])


def _figure(table: Table, section: Section, rows: list[Row]) -> "Figure":
    figure, panels = style.new(height=3.4, nrows=2, ncols=2, sharex="col")
    for place, title, look, label in CURVES:
        column = table.column(title)
        left, right = panels[place]
        if printed := ablations.printed(table, column):
            left.plot(
                *zip(*printed, strict=True), look.line,
                color=look.colour, marker=look.marker, markersize=4,
            )  # fmt: skip
        found = [measure(row, column) for row in rows]
        ablations.points(right, [_epochs(row) for row in rows], found, look, label)
    for panel in panels[0]:
        style.log_losses(panel)
    panels[0][0].set_ylabel("loss (nats a token)")
    panels[1][0].set_ylabel("validation accuracy (%)")
    panels[0][0].set_title("the paper, LLaMA-7B", fontsize=7.5)
    panels[0][1].set_title("ours", fontsize=7.5)
    _ticks(panels[1][0], ablations.paper_rows(table))
    _ticks(panels[1][1], sorted({_epochs(row) for row in rows}))
    figure.suptitle(subtitle(section), fontsize=7.5)
    above, below = (panel.get_legend_handles_labels() for panel in panels[:, 1])
    figure.legend(above[0] + below[0], above[1] + below[1], loc="outside lower center", ncols=2)
    return figure


def _ticks(panel: "Axes", epochs: list[float]) -> None:
    panel.set_xlabel("epochs of the training")
    panel.set_xticks(epochs, [f"{one:g}" for one in epochs])
    panel.margins(x=0.15)
