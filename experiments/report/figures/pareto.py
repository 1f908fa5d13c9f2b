"""Draw the score of each method against the number of parameters that it tunes."""

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from experiments.harness.report_info import ReportInfo
from experiments.report import formats
from experiments.report.control import counts
from experiments.report.experiments import all_scored_sections, score_column, tasks_of
from experiments.report.figures import style
from experiments.report.figures.drawn import (
    Drawn,
    stem,
    subtitle,
    title_of,
)
from experiments.report.measured import Measured, measure
from experiments.report.rows import Column, Row, Section
from experiments.report.runs import Runs

if TYPE_CHECKING:
    from matplotlib.figure import Figure

OFF_SCALE = 1.5  # times the frozen backbone's loss: beyond, a loss would dwarf the others


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each averaged group of tasks, or task, of each section."""
    for experiment, info, section in all_scored_sections(runs):
        for name, found in _panels(section, info).items():
            left_out = [task for task in found if _does_not_count(section, task, info)]
            together = [task for task in found if task not in left_out]
            figure = together and _figure(info, section, together, left_out)
            if figure:
                yield Drawn(stem("parameters", experiment, section, name), figure)


def _panels(section: Section, info: ReportInfo) -> dict[str, list[str]]:
    """The tasks that are averaged, by the name of their group, and all other tasks by theirs."""
    found: dict[str, list[str]] = {}
    for task in tasks_of(section, info):
        names = [name for name in info.averaged if task in info.groups[name].tasks]
        found.setdefault((names or [task])[0], []).append(task)
    return found


def _does_not_count(section: Section, task: str, info: ReportInfo) -> bool:
    """Whether a task is known to fail the experiment's control."""
    control = info.control
    if control is None or task not in control.tasks:
        return False
    return counts(section, score_column(info, task), control) is False


def _figure(
    info: ReportInfo, section: Section, together: Sequence[str], left_out: Sequence[str]
) -> "Figure | None":
    score = info.score
    baseline = info.control.baseline if info.control else ""  # a control, not a method
    mean = score_column(info, *together)
    tuned = Column("tuned_parameters", "", "", formats.count, tasks=tuple(together))
    points: list[tuple[Row, float, Measured]] = []
    frozen: tuple[str, float] | None = None  # a method without parameters
    for row in _in_order(section):
        one, size = measure(row, mean), measure(row, tuned)
        if one.mean is None or size.mean is None or row.method == baseline:
            continue
        if size.mean == 0:
            frozen = (row.method, one.mean)
        else:
            points.append((row, size.mean, one))
    if len(points) < 2:
        return None
    figure, panel = style.new(height=3.1)
    hidden = []
    for row, parameters, one in points:
        height = float(one.mean or 0)
        if frozen and not score.higher_is_better and height > OFF_SCALE * frozen[1]:
            hidden.append(f"{row.method} ({height:.1f})")
            continue
        colour, marker, _ = style.look(row.method)
        trained = one.state == "done"
        seeds = list(one.values.values())
        panel.plot([parameters] * len(seeds), seeds, ".", color=colour, markersize=3, alpha=0.6)
        panel.plot(
            parameters,
            height,
            marker,
            color=colour,
            markersize=6.5 if row.method == "zero-init" else 5.5,
            markerfacecolor=colour if trained else "white",
            label=section.label(row).removesuffix(" †") + ("" if trained else " (not trained)"),
        )
    style.log_counts(panel)
    if frozen:
        panel.axhline(frozen[1], color="#777777", linestyle=":", linewidth=1, label=frozen[0])
    panel.set_xlabel("tuned parameters, head included")
    what = title_of(together[0], info) if len(together) == 1 else f"mean of {len(together)} tasks"
    if left_out:
        what += f"; not {', '.join(title_of(task, info) for task in left_out)}: does not count"
    panel.set_ylabel(score.title)
    panel.set_title(f"{subtitle(section)}\n{what}", fontsize=7.5)
    panel.grid(axis="y", linewidth=0.4, color="#DDDDDD")
    panel.set_axisbelow(True)
    if hidden:
        panel.text(
            0.02,
            0.02,
            "off the scale: " + ",\n".join(hidden),
            transform=panel.transAxes,
            fontsize=6.5,
        )
    style.legend_below(figure, panel, 3)
    return figure


def _in_order(section: Section) -> list[Row]:
    order = style.ordered({row.method for row in section.rows})
    return sorted(section.rows, key=lambda row: order.index(row.method))
