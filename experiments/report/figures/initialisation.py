"""Draw the training loss by epoch of each initialisation, the paper's and ours."""

from collections.abc import Iterator, Sequence
from math import ceil
from statistics import mean
from typing import TYPE_CHECKING

from experiments.report.figures import ablations, losses, style
from experiments.report.figures.drawn import Drawn, stem, subtitle
from experiments.report.rows import Row, Section
from experiments.report.runs import Runs
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

POINTS = 30  # of a curve, roughly: the paper's has one per epoch


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each section with a finished run that has its log."""
    for table, section in ablations.sections_of(runs, "initialisation"):
        curves = {
            section.label(row).removesuffix(" †"): (row.method, curve)
            for row in section.begun
            if (curve := _curve(runs, row))
        }
        if curves:
            name = stem("initialisation", table.experiment, section)
            yield Drawn(name, _figure(section, curves))


def _figure(
    section: Section, curves: dict[str, tuple[str, tuple[list[float], list[float]]]]
) -> "Figure":
    figure, (left, right) = style.new(height=2.5, ncols=2)
    losses.draw_paper(left)
    for label, (method, (epochs, loss)) in curves.items():
        colour, marker, line = style.look(method)
        right.plot(
            epochs, loss, line, color=colour, marker=marker, markersize=2.5, label=label,
        )  # fmt: skip
    for panel, title in ((left, "the paper, LLaMA-7B"), (right, "ours")):
        style.log_losses(panel)
        panel.set_xlabel("epoch")
        panel.set_title(title, fontsize=7.5)
    left.set_ylabel("training loss")
    figure.suptitle(subtitle(section), fontsize=7.5)
    style.legend_below(figure, right, 2)
    return figure


def _curve(runs: Runs, row: Row) -> tuple[list[float], list[float]] | None:
    """Ends of epochs, or of equal parts of epochs, and the mean loss in each."""
    seeds = []
    for done in row.done:
        run = runs.one(done)
        try:
            steps = [(one["epoch"], one["loss"]) for one in run.metrics() if "loss" in one]
        except ZiaError as error:
            runs.give_up(run.name, error)
            continue
        if steps:
            seeds.append(by_epoch(steps))
    if not seeds:
        return None
    common = sorted(set.intersection(*(set(seed) for seed in seeds)))
    return common, [mean(seed[end] for seed in seeds) for end in common]


def by_epoch(steps: Sequence[tuple[float, float]]) -> dict[float, float]:
    """Return the mean loss by the end of each epoch, or of parts of epochs in a short training.

    Args:
        steps: what was done of the epochs after each step, and its loss.
    """
    parts = max(1, round(POINTS / steps[-1][0]))
    found: dict[int, list[float]] = {}
    for epoch, loss in steps:
        # An epoch that was rounded up a little does not begin the next.
        found.setdefault(ceil(epoch * parts - 1e-6), []).append(loss)
    return {end / parts: mean(of) for end, of in found.items()}
