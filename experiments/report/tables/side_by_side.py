"""The layout "side_by_side": a method's numbers in one line, each left of ours the paper's."""

from collections.abc import Iterator
from math import isnan

from experiments.report import formats
from experiments.report.document import Cell, Document, Grid, Part
from experiments.report.measured import measure
from experiments.report.paper import PaperTable
from experiments.report.planned_seeds import Plans
from experiments.report.rows import SECTION, Column, Section
from experiments.report.runs import Runs
from experiments.report.tables import last_doubling
from experiments.report.tables.definition import Table
from experiments.report.tables.paper_cells import paper_cells, sources


def document(table: Table, runs: Runs) -> Document:
    """Return the table as a document that depends on the runs alone."""
    assert table.paper
    assert table.experiment
    plans = runs.plans
    sections = table.sections(runs, by=SECTION)
    return Document(
        name=table.name,
        title=table.paper.title,
        intro=f"The paper's numbers: {table.paper.conditions}. {table.intro}".rstrip(),
        parts=tuple(_part(table, table.paper, section, plans, runs) for section in sections),
        sources=sources(table.paper),
        cells=(
            *paper_cells(table.paper),
            *(cell for section in sections for cell in _cells(table, section, plans)),
        ),
        damaged=runs.damaged_of(table.experiment),
    )


def _part(table: Table, paper: PaperTable, section: Section, plans: Plans, runs: Runs) -> Part:
    names = dict(table.rows)
    beside_paper, ours_only = _columns(table, section)
    header = ["method", "in the paper"]
    for column in beside_paper:
        header += [f"{column.title}: paper", "ours"]
    lines: list[tuple[object, ...]] = []
    for row in section.rows:
        name = names.get(row.method)
        line: list[object] = [section.label(row), name or formats.NOTHING]
        for column in beside_paper:
            cells = paper.find(name, column.title)
            line += [
                cells[0].printed if cells else formats.NOTHING,
                measure(row, column).number if row.done else row.state,
            ]
        lines.append(tuple(line))
    beside = Grid(tuple(header), tuple(lines))
    if not section.begun:
        return Part((beside,))
    ours = Grid(
        ("method", *(column.title for column in ours_only), "seeds", "state"),
        tuple(
            (
                section.label(row),
                *(measure(row, column).number for column in ours_only),
                formats.seeds(len(row.done), plans.seeds(row.runs[0])),
                row.state,
            )
            for row in section.begun
        ),
    )
    title = section.title(table.experiment)
    return Part((beside, ours), title, tuple(_notes(table, section, runs)), section.key)


def _columns(table: Table, section: Section) -> tuple[list[Column], list[Column]]:
    """The columns that the paper has, and those that only we have."""

    def shown(column: Column) -> bool:
        return not (column.if_there and all(isnan(r.value(column.field)) for r in section.runs))

    beside, ours = (
        [c for block in table.blocks if block.paper == paper for c in block.columns if shown(c)]
        for paper in (True, False)
    )
    return beside, ours


def _notes(table: Table, section: Section, runs: Runs) -> Iterator[str]:
    """Say how the numbers were obtained, and name every run."""
    varying = section.varying()
    common = [name for name in sorted(section.begun[0].settings) if name not in varying]
    if section.reduced:
        yield f"† A reduced run: of the data it saw {section.key['data']}."
    yield from table.notes_on(section)
    yield from last_doubling.note(table, section, runs)
    yield f"All rows: {section.begun[0].describe(common)}."
    for row in section.begun:
        text = f"{section.label(row)}: "
        text += f"{row.describe(varying)}. " if varying else ""
        text += f"On {'; '.join(row.machines)}."
        for run in row.runs:
            text += f" Seed {run.seed}: {run.state}"
            text += f" ({formats.one_line(run.reason)})" if run.state == "failed" else ""
            text += f", `{run.folder}`."
        yield text


def _cells(table: Table, section: Section, plans: Plans) -> Iterator[Cell]:
    for row in section.rows:
        for columns in _columns(table, section):
            for column in columns:
                one = measure(row, column, plans)
                yield one.cell(section.label(row), row.method, section.key)
