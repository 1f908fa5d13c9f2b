"""Draw the headlines of a table as bars: the paper's in the first panel, ours beside it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from statistics import mean
from typing import TYPE_CHECKING, Any

from experiments.report.control import expanded
from experiments.report.figures import style
from experiments.report.figures.drawn import Drawn
from experiments.report.measured import measure
from experiments.report.rows import Section
from experiments.report.runs import Runs
from experiments.report.tables.definition import Headline, Table
from experiments.report.tables.read import tables

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MOST = 3  # panels of ours
BAR, MARGIN = 0.155, 0.5  # inches
PAPER = "the paper"


@dataclass(frozen=True)
class Bar:
    """A method's score, with those of its seeds; the paper's has none."""

    height: float
    seeds: tuple[float, ...] = ()
    trained: bool = True


Panel = Mapping[str, Bar]  # by method


def name_of(table: str) -> str:
    """Return the name of a table's figure."""
    return f"beside-{table}"


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a figure for each table that has headlines and runs."""
    known = {table.name: table for table in tables()}
    for table in known.values():
        if not table.headlines:
            continue
        also = [known[name] for name in table.drawn_with]
        found = list(_begun((table, *also), runs))[:MOST]
        titles = [PAPER, *(_title(section, of in also) for of, section in found)]
        rows = {
            one.title: [_papers(table, one), *(_ours(of, one, section) for of, section in found)]
            for one in table.headlines
        }
        guesses = {
            one.title: [None, *(_guess(of, one, section) for of, section in found)]
            for one in table.headlines
        }
        if shown := {title: row for title, row in rows.items() if any(row[1:])}:
            yield Drawn(name_of(table.name), _figure(shown, guesses, titles))


def _begun(of: Sequence[Table], runs: Runs) -> Iterator[tuple[Table, Section]]:
    for table in of:
        yield from ((table, section) for section in table.sections(runs) if section.begun)


def _title(section: Section, other_data: bool) -> str:
    title = f"{section.key['profile']}: {section.key['backbone']}"
    tasks = sorted({run.task for run in section.runs})
    return f"{title}\n{', '.join(tasks)}" if other_data else title


def _papers(table: Table, headline: Headline) -> Panel:
    found = {}
    for method, row in table.rows:
        printed = [
            cells[0].value
            for column in headline.paper or (headline.column,)
            if table.paper and (cells := table.paper.find(row, column))
        ]
        known = [value for value in printed if value is not None]
        if method and known and len(known) == len(printed):
            found[method] = Bar(mean(known))
    return _over(found, headline)


def _ours(table: Table, headline: Headline, section: Section) -> Panel:
    column = table.column(headline.column)
    if headline.tasks:
        column = replace(column, tasks=expanded(headline.tasks, section, table.info)[0])
    baseline = table.info.control.baseline if table.info.control else ""  # not a method
    found: dict[str, Bar] = {}
    for row in section.begun:
        one = measure(row, column)
        if one.mean is None or row.method in (*found, baseline) or one.incomparable:
            continue
        if column.of_machine and not one.mean:  # without training
            continue
        found[row.method] = Bar(one.mean, tuple(one.values.values()), one.state == "done")
    return _over(found, headline)


def _guess(table: Table, headline: Headline, section: Section) -> float | None:
    """What answers without any knowledge score, where runs recorded it."""
    column = table.column(headline.column)
    fields = table.info.guesses.get(column.field, ())
    found = [measure(row, replace(column, field=f)).mean for row in section.begun for f in fields]
    return max((one for one in found if one is not None), default=None)


def _over(found: Panel, headline: Headline) -> Panel:
    if not headline.over:
        return found
    if headline.over not in found:
        return {}
    unit = found[headline.over].height
    return {
        method: Bar(bar.height / unit, tuple(seed / unit for seed in bar.seeds), bar.trained)
        for method, bar in found.items()
    }


def _figure(
    rows: Mapping[str, Sequence[Panel]],
    guesses: Mapping[str, Sequence[float | None]],
    titles: Sequence[str],
) -> "Figure":
    orders = [style.ordered({method for panel in row for method in panel}) for row in rows.values()]
    heights = [MARGIN + BAR * len(order) for order in orders]
    figure, panels = style.new(
        width=2 * style.COLUMN, height=sum(heights) + 0.2, nrows=len(rows), ncols=len(titles),
        squeeze=False, gridspec_kw={"height_ratios": heights},
    )  # fmt: skip
    for across, (score, row), order in zip(panels, rows.items(), orders, strict=True):
        for place, (panel, bars) in enumerate(zip(across, row, strict=True)):
            _bars(panel, bars, order, "not printed" if place == 0 else "not measured")
            if (guess := guesses[score][place]) is not None:
                panel.axvline(guess, linestyle=":", color="black", linewidth=0.8)
            panel.set_xlabel(score, fontsize=7)
            panel.set_yticks(range(len(order)), order if place == 0 else [""] * len(order))
    for panel, title in zip(panels[0], titles, strict=True):
        panel.set_title(title, fontsize=7.5, fontweight="bold" if title == PAPER else "normal")
    hatched = any(
        not bar.trained for row in rows.values() for panel in row for bar in panel.values()
    )
    marks = "points: seeds" + ("; hatched: not trained" if hatched else "")
    if any(one is not None for title in rows for one in guesses[title]):
        marks += "; dotted: a guess"
    figure.supxlabel(marks, fontsize=6.5)
    return figure


def _bars(panel: Any, bars: Panel, order: Sequence[str], without: str) -> None:
    most = max((max(bar.height, *bar.seeds, 0.0) for bar in bars.values()), default=1.0) or 1.0
    panel.set_xlim(0, 1.3 * most)
    panel.set_ylim(len(order) - 0.4, -0.6)
    panel.tick_params(axis="y", length=0)
    if not bars:
        panel.text(0.65 * most, (len(order) - 1) / 2, without, ha="center", fontsize=7)
        panel.set_xticks([])
    places = 1 if most >= 20 else 2
    for method, bar in bars.items():
        place = order.index(method)
        panel.barh(
            place, bar.height, height=0.74, color=style.look(method).colour, linewidth=0,
            alpha=0.6 if bar.trained else 0.2, hatch=None if bar.trained else "////",
        )  # fmt: skip
        panel.plot(bar.seeds, [place] * len(bar.seeds), ".", color="black", markersize=2)
        end = max(bar.height, *bar.seeds, 0.0) + 0.02 * most
        panel.text(end, place, f"{bar.height:.{places}f}", va="center", fontsize=6.5)
