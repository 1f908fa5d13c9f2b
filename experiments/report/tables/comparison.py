"""The layout "comparison": where one method is ahead of, level with or behind every other one.

A line is another method, a column a task. Differences are over the seeds that both have; a word
needs at least five of these and follows from `statistics.verdict`.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from experiments.report import formats
from experiments.report.control import counts, in_words
from experiments.report.document import Cell, Document, Grid, Part
from experiments.report.rows import Column, Section
from experiments.report.runs import Runs
from experiments.report.statistics import ENOUGH, FAILS, HOLDS, INCONCLUSIVE, LEVEL
from experiments.report.tables import last_doubling
from experiments.report.tables.definition import Table
from experiments.report.tables.paired_differences import WORDS, bands, difference


def document(table: Table, runs: Runs) -> Document:
    """Return the comparison as a document that depends on the runs alone."""
    cells: list[Cell] = []
    columns = [column for column in table.columns if column.compared]
    parts = [
        _part(table, section, cells, runs) for section in table.sections(runs) if section.begun
    ]
    parts = [part for part in parts if part.grids]
    if not parts:
        others = tuple((method, "missing") for method in table.methods if method != table.ours)
        parts = [Part((Grid(("method", "state"), others),), "No runs to compare yet")]
    return Document(
        name=table.name,
        title=table.title,
        intro=(
            f"Percentage points, {table.ours} minus the method: the mean difference of paired "
            f"seeds, its 95 % t-interval, and what follows. Below {ENOUGH} seeds nothing follows; "
            f"level is an interval within {bands(columns)}."
        ),
        parts=tuple(parts),
        sources="",
        cells=tuple(cells),
        damaged=runs.damaged_of(table.experiment),
    )


def _part(table: Table, section: Section, cells: list[Cell], runs: Runs) -> Part:
    ours = [row for row in section.begun if row.method == table.ours]
    # Scores, not parameters or losses.
    columns = [column for column in table.columns if column.compared]
    control = table.info.control
    counted = [c for block in table.blocks if block.counts for c in block.columns]
    probe = control.baseline if control else ""  # not a rival: it does not use the backbone
    shown = replace(section, rows=[row for row in section.rows if row.method != probe])
    columns = [column for column in columns if any(row.of(column.tasks).runs for row in ours)]
    lines: list[tuple[object, ...]] = []
    if len(ours) == 1:  # several settings of ours cannot be compared as one
        for other in shown.begun:
            if other.method == table.ours:
                continue
            made = [difference(section, ours[0], other, column) for column in columns]
            cells += made
            lines.append((section.label(other), *(cell.text for cell in made)))
        verdicts = [
            c not in counted or control is None or counts(section, c, control) for c in columns
        ]
        lines.append(
            (
                "in short",
                *(
                    _in_short(cells, section, column) if verdict else in_words(verdict)
                    for column, verdict in zip(columns, verdicts, strict=True)
                ),
            )
        )
    header = ("method", *(column.title for column in columns))
    grids = (Grid(header, tuple(lines)),) if lines and columns else ()
    key = section.key
    notes = [f"'not trained': {table.info.trained.unmet}."]
    if counted and control:
        notes.append(control.sentence)
    notes += last_doubling.note(table, section, runs)
    if varying := shown.varying():
        notes += [f"{shown.label(row)}: {row.describe(varying)}." for row in shown.begun]
    if section.reduced:
        notes.insert(0, f"† A reduced run: {key['data']}.")
    return Part(grids, section.title(), tuple(notes), section.key)


def _in_short(cells: Sequence[Cell], section: Section, column: Column) -> str:
    of_column = [c for c in cells if c.key == section.key and c.column == column.title]
    words = Counter(cell.state for cell in of_column)
    order = (WORDS[HOLDS], LEVEL, WORDS[FAILS], INCONCLUSIVE)
    return ", ".join(f"{words[word]} {word}" for word in order if words[word]) or formats.NOTHING
