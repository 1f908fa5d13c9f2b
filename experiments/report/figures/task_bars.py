"""Draw scores by task and method as bars, with a point per seed."""

from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.report.experiments import score_column, scored_sections
from experiments.report.figures import style
from experiments.report.figures.drawn import (
    Drawn,
    flat,
    grid,
    groups,
    stem,
    subtitle,
    title_of,
)
from experiments.report.measured import measure
from experiments.report.rows import Section
from experiments.report.runs import Runs
from experiments.report.tables.definition import Table
from experiments.report.tables.read import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each group of tasks of each section."""
    for table in tables():
        if table.figure != "task_bars":
            continue
        for section in scored_sections(runs, table.experiment, table.info):
            for group, together in groups(section, table.info).items():
                name = stem("tasks", table.experiment, section, *group)
                yield Drawn(name, _figure(table, section, together))


def _figure(table: Table, section: Section, of_group: list[str]) -> "Figure":
    info = table.info
    rows = {section.label(row).removesuffix(" †"): row for row in section.rows}
    order = [
        label
        for method in style.ordered({r.method for r in section.rows})
        for label, row in rows.items()
        if row.method == method
    ]
    down, across = grid(len(of_group))
    figure, panels = style.new(
        height=0.55 + down * (0.3 + 0.155 * len(order)), nrows=down, ncols=across, sharey=True
    )
    paper = table.paper
    names = dict(table.rows)
    shown = list(flat(panels))
    hatched = beside_paper = False
    for panel, task in zip(shown, of_group, strict=False):
        panel.set_title(title_of(task, info), loc="left", pad=2)
        column = score_column(info, task)
        for place, label in enumerate(order):
            row = rows[label]
            one = measure(row, column)
            title = info.task_titles.get(task, task)
            printed = paper.find(names.get(row.method), title) if paper else []
            if printed and printed[0].value is not None:
                beside_paper = True
                panel.plot(printed[0].value, place, "|", color="black", markersize=8, zorder=4)
            if one.mean is None:
                panel.text(1, place, one.state, va="center", fontsize=6.5, color="#555555")
                continue
            trained = one.state == "done"
            hatched |= not trained
            panel.barh(
                place, one.mean, height=0.72, color=style.look(row.method).colour,
                alpha=0.55 if trained else 0.2, hatch=None if trained else "////",
                linewidth=0,
            )  # fmt: skip
            seeds = list(one.values.values())
            panel.plot(seeds, [place] * len(seeds), ".", color="black", markersize=2.5)
            panel.text(123, place, f"{one.mean:.1f}", ha="right", va="center", fontsize=6.5)
        panel.set_xlim(0, 123)  # room for numbers right of 100
        panel.set_xticks([0, 50, 100])
        panel.set_yticks(range(len(order)), order)
        panel.set_ylim(len(order) - 0.4, -0.6)
        panel.tick_params(axis="y", length=0)
    for panel in shown[len(of_group) :]:
        panel.set_visible(False)
    marks = "; line: the paper" if beside_paper else ""
    marks += "; hatched: not trained" if hatched else ""
    figure.suptitle(subtitle(section), fontsize=7.5)
    figure.supxlabel(f"{info.score.title}; points: seeds{marks}", fontsize=7.5)
    return figure
