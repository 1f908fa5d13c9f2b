"""Where zero-init attention is ahead, level and behind: paired differences to every other method.

A line is another method, a column a task. The difference is over the seeds that both have; ahead or
behind needs at least five of them and a 95 % interval that leaves zero out.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

from experiments.report import formats
from experiments.report.claims.statistics import ENOUGH
from experiments.report.document import Cell, Document, Grid, Part
from experiments.report.paired_differences import UNDECIDED, difference
from experiments.report.pixel_control import counts, in_words
from experiments.report.rows import Column, Section
from experiments.report.runs import Runs
from experiments.report.tables import squad, vtab
from experiments.report.tables.definition import Table

OURS = "zero-init"


def document(table: Table, runs: Runs) -> Document:
    """Return the comparison for one of the tables of methods, from the run folders alone."""
    assert table.experiment is not None
    cells: list[Cell] = []
    parts = [_part(table, section, cells) for section in table.sections(runs) if section.begun]
    parts = [part for part in parts if part.grids]
    if not parts:
        others = tuple((method, "missing") for method in table.methods if method != OURS)
        parts = [Part((Grid(("method", "state"), others),), "No runs to compare yet")]
    return Document(
        name=f"zero_init_{table.experiment}",
        title=f"Zero-init attention against every other method: {table.experiment}",
        intro=(
            "Percentage points, zero-init minus the method: the mean difference of paired seeds, "
            f"its 95 % t-interval, and what follows. Below {ENOUGH} seeds nothing follows; "
            f'"{UNDECIDED}" is an interval that holds zero, not equality.'
        ),
        parts=tuple(parts),
        sources="",
        cells=tuple(cells),
        damaged=runs.damaged_of(table.experiment),
    )


DOCUMENTS = {
    f"zero_init_{table.experiment}": table
    for table in (next(t for t in vtab.TABLES if t.name == "vtab_tasks"), *squad.TABLES)
}


def _part(table: Table, section: Section, cells: list[Cell]) -> Part:
    ours = [row for row in section.begun if row.method == OURS]
    # Scores, not parameters or losses: what stands against a number of the paper.
    columns = [c for block in table.blocks for c in block.columns if c.compared]
    control = {c: block.control for block in table.blocks if block.control for c in block.columns}
    probes = {pair[1] for pair in control.values()}  # no rivals, they do not use the backbone
    shown = replace(section, rows=[row for row in section.rows if row.method not in probes])
    columns = [column for column in columns if any(row.of(column.tasks).runs for row in ours)]
    lines: list[tuple[object, ...]] = []
    if len(ours) == 1:  # with several settings there is no one zero-init to compare
        for other in shown.begun:
            if other.method == OURS:
                continue
            made = [difference(section, ours[0], other, column) for column in columns]
            cells += made
            lines.append((section.label(other), *(cell.text for cell in made)))
        verdicts = [c not in control or counts(section, c, control[c]) for c in columns]
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
    notes = ["'not trained': the training loss of a seed did not fall by 20 %."]
    if control:
        notes.append("A task of our own counts only where a linear probe beats one on the pixels.")
    if varying := shown.varying():
        notes += [f"{shown.label(row)}: {row.describe(varying)}." for row in shown.begun]
    if section.reduced:
        notes.insert(0, f"† A reduced run: {key['data']}.")
    title = f"{key['profile']}: {key['backbone']}, data {key['data']} (version {key['version']})"
    return Part(grids, title, tuple(notes))


def _in_short(cells: Sequence[Cell], section: Section, column: Column) -> str:
    of_column = [c for c in cells if c.key == section.key and c.column == column.title]
    words = Counter(cell.state for cell in of_column)
    order = ("ahead", UNDECIDED, "behind")
    return ", ".join(f"{words[word]} {word}" for word in order if words[word]) or formats.NOTHING
