"""Compare two methods seed by seed: the mean difference, its interval, and the verdict."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from statistics import mean

from experiments.metrics.intervals import t_interval
from experiments.report.document import Cell, Grid
from experiments.report.measured import Measured, measure
from experiments.report.rows import MIXED, Column, Row, Section, same_inputs
from experiments.report.statistics import ENOUGH, FAILS, HOLDS, INCONCLUSIVE, detectable, verdict
from experiments.report.tables.definition import Table

WORDS = {HOLDS: "ahead", FAILS: "behind"}
CAPTION = (
    "Paired differences: mean over the seeds that both have, 95 % t-interval, and from "
    f"{ENOUGH} seeds on what follows; level is an interval within "
)


def difference(section: Section, ours: Row, other: Row, column: Column) -> Cell:
    """Return `ours` minus `other` as a cell of the row `other`, with the runs of both."""
    one, two = measure(ours, column), measure(other, column)
    pairs = {
        seed: one.values[seed] - two.values[seed]
        for seed in sorted(one.values.keys() & two.values.keys())
    }
    state, text = _said(one, two, list(pairs.values()), column.band)
    if not same_inputs(ours.of(column.tasks), other.of(column.tasks)):
        state = text = MIXED
    return replace(
        two.cell(section.label(other), other.method, section.key),
        mean=mean(pairs.values()) if pairs else None,
        std=None,
        n=len(pairs),
        planned=None,
        difference=None,
        state=state,
        text=text,
        runs=(*one.sources, *two.sources),
    )


def grid(table: Table, section: Section) -> tuple[Grid, list[Cell]] | None:
    """Return a grid of the table's pairs that have runs here, and its cells; None without any.

    A method with several rows is in no pair.
    """
    lines: list[tuple[object, ...]] = []
    cells: list[Cell] = []
    for ours, other in _rows(table, section):
        label = f"{ours.method} minus {other.method}{' †' if section.reduced else ''}"
        found = [difference(section, ours, other, column) for column in table.paired]
        cells += [replace(cell, row=label, method="") for cell in found]
        lines.append((label, *(cell.text for cell in found)))
    header = ("pair", *(column.title for column in table.paired))
    return (Grid(header, tuple(lines), CAPTION + bands(table.paired)), cells) if lines else None


def bands(columns: Sequence[Column]) -> str:
    """Return the bands of columns as text: "± 2, in CIDEr ± 10"."""
    usual = columns[0].band
    other = [f"in {column.title} ± {column.band:g}" for column in columns if column.band != usual]
    return ", ".join([f"± {usual:g}", *other])


def _rows(table: Table, section: Section) -> Iterator[tuple[Row, Row]]:
    for pair in table.pairs:
        one, two = ([row for row in section.begun if row.method == method] for method in pair)
        if len(one) == len(two) == 1:
            yield one[0], two[0]


def _said(
    one: Measured, two: Measured, differences: Sequence[float], band: float
) -> tuple[str, str]:
    """State and text of a cell."""
    for method in (two, one):
        if method.state != "done":
            return method.state, method.state
        if method.failed:  # what is left may be the lucky seeds
            return INCONCLUSIVE, f"{method.failed} failed"
    if not differences:
        return "missing", "no seed that both have"
    text = f"{mean(differences):+.1f}"
    if len(differences) < ENOUGH:
        return INCONCLUSIVE, f"{text} (n={len(differences)})"
    low, high = t_interval(differences)
    found = verdict(differences, "above", 0.0, (-band, band))
    word = WORDS.get(found, found)
    text = f"{text} [{low:+.1f}, {high:+.1f}] {word}"
    if found == INCONCLUSIVE:
        text += f" (would have shown {detectable(differences):.1f})"
    return word, text
