"""Draw training losses by step, and the paper's Figure 5 (7 in v3), digitised."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.harness.report_info import ReportInfo
from experiments.report.experiments import all_scored_sections
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
from experiments.report.paper import paper_table
from experiments.report.rows import Row, Section
from experiments.report.runs import Runs
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PAPER = "paper-loss-curves"
BINS = 40  # points of a curve, each a mean over steps


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield the paper's curves, and those of each section, with a panel per task."""
    yield Drawn(PAPER, _paper())
    for experiment, info, section in all_scored_sections(runs):
        for group, together in groups(section, info).items():
            figure = _figure(runs, section, info, together)
            if figure is not None:
                yield Drawn(stem("losses", experiment, section, *group), figure)


def _paper() -> "Figure":
    figure, panel = style.new(height=2.3)
    draw_paper(panel)
    style.log_losses(panel)
    panel.set_xlabel("epoch")
    panel.set_ylabel("training loss")
    figure.suptitle("the paper, Fig. 5 of v1: LLaMA-7B on ScienceQA", fontsize=7.5)
    panel.legend(loc="upper right")
    return figure


def draw_paper(panel: "Axes") -> None:
    """Draw the paper's two curves, with a point per epoch."""
    table = paper_table("loss_curves")
    epochs = list(range(1, 31))
    for row, method in (("zero-init", "zero-init"), ("rand-init", "random-init")):
        losses = [float(table.find(row, f"epoch {one}")[0].value or 0) for one in epochs]
        colour, marker, line = style.look(method)
        panel.plot(epochs, losses, line, color=colour, marker=marker, markersize=2.5, label=row)


def _figure(
    runs: Runs, section: Section, info: ReportInfo, together: Sequence[str]
) -> "Figure | None":
    curves = {
        task: {
            section.label(row).removesuffix(" †"): (row.method, curve)
            for row in section.rows
            if (curve := _mean_curve(runs, row.of((task,)))) is not None
        }
        for task in together
    }
    curves = {task: of_task for task, of_task in curves.items() if of_task}
    if not curves:
        return None
    down, across = grid(len(curves))
    rows = len({label for of_task in curves.values() for label in of_task})
    figure, panels = style.new(
        height=0.35 + down * (2.1 if across == 1 else 1.45) + 0.15 * ((rows + 2) // 3),
        nrows=down, ncols=across,
    )  # fmt: skip
    shown = list(flat(panels))
    handles = {}
    for place, (task, of_task) in enumerate(curves.items()):
        panel = shown[place]
        order = style.ordered({method for method, _ in of_task.values()})
        for label, (method, (steps, losses)) in sorted(
            of_task.items(), key=lambda item: (order.index(item[1][0]), item[0])
        ):
            colour, _, line = style.look(method)
            [handles[label]] = panel.plot(steps, losses, line, color=colour, linewidth=1.1)
        style.log_losses(panel)
        if place >= len(curves) - across:
            panel.set_xlabel("step")
        if len(curves) > 1:
            panel.set_title(title_of(task, info), loc="left", pad=2)
    for panel in shown[len(curves) :]:
        panel.set_visible(False)
    figure.suptitle(subtitle(section), fontsize=7.5)
    figure.supylabel("training loss, mean of the seeds", fontsize=7.5)
    figure.legend(handles.values(), handles.keys(), loc="outside lower center", ncols=3)
    return figure


def _mean_curve(runs: Runs, row: Row) -> "tuple[np.ndarray, np.ndarray] | None":
    """Steps and losses, averaged over seeds and then over neighbouring steps."""
    import numpy as np

    seeds = []
    for done in row.done:
        run = runs.one(done)
        try:
            losses = [record["loss"] for record in run.metrics() if "loss" in record]
        except ZiaError as error:
            runs.give_up(run.name, error)
            continue
        if losses:
            seeds.append(losses)
    if not seeds:
        return None
    length = min(map(len, seeds))  # seeds may differ in length
    loss = np.mean([losses[:length] for losses in seeds], axis=0)
    parts = np.array_split(np.arange(length), min(BINS, length))
    steps = np.array([part.mean() + 1 for part in parts])
    return steps, np.array([loss[part].mean() for part in parts])
