"""Validation accuracy against the number of inserted layers (Table 4 as a figure)."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.backbones import language_models
from experiments.report.figures import ablations, style
from experiments.report.figures.shared import Drawn, stem, subtitle
from experiments.report.measured import measure
from experiments.report.paper import paper_table
from experiments.report.rows import Section
from experiments.report.runs import Runs
from experiments.report.tables.ablations import ACCURACY, LIKELIHOOD
from experiments.scienceqa.plan import ABLATED_LAYERS, DEPTH, NAME

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each section with finished runs of known depth."""
    for section in ablations.sections_of(runs, "layers"):
        figure = _figure(section)
        if figure is not None:
            yield Drawn(stem("layers", NAME, section), figure)


def _figure(section: Section) -> "Figure | None":
    backbone = language_models.BACKBONES.get(str(section.key["backbone"]))
    if backbone is None:  # of unknown depth
        return None
    rows = sorted(section.begun, key=lambda row: int(row.settings["num_layers"]))
    places = [100 * int(row.settings["num_layers"]) / backbone.layers for row in rows]
    figure, panel = style.new(height=2.8)
    table = paper_table("layers")
    printed = [table.find(str(layers), ACCURACY.title)[0].value for layers in ABLATED_LAYERS]
    look = ablations.PAPER
    panel.plot(
        [100 * layers / DEPTH for layers in ABLATED_LAYERS], printed, look.line,
        marker=look.marker, markersize=4, color=look.colour, label="the paper, LLaMA-7B",
    )  # fmt: skip
    drawn = [
        ablations.points(panel, places, [measure(row, column) for row in rows], look, label)
        for column, look, label in (
            (ACCURACY, ablations.GREEDY, "ours"),
            (LIKELIHOOD, ablations.LIKELIHOOD, "ours, by likelihood"),
        )
    ]
    if not any(drawn):
        return None
    panel.set_xlabel(f"inserted layers, % of the backbone's depth (ours: {backbone.layers})")
    panel.set_ylabel("validation accuracy (%)")
    panel.set_title(subtitle(section), fontsize=7.5)
    panel.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    panel.set_axisbelow(True)
    style.legend_below(figure, panel, 2)
    return figure
