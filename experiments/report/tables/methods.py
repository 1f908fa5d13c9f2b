"""The layout "methods": the paper's numbers, ours below them, and the difference."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

from experiments.report import formats
from experiments.report.control import counts, in_words
from experiments.report.document import Cell, Document, Grid, Part
from experiments.report.measured import LATER, NOT_PLANNED, Measured, measure
from experiments.report.paper import PaperTable
from experiments.report.rows import Column, Row, Section
from experiments.report.runs import Runs
from experiments.report.tables import last_doubling, paired_differences
from experiments.report.tables.definition import Block, Table
from experiments.report.tables.paper_cells import paper_cells, shown_as, sources

ABSENT = ("missing", NOT_PLANNED, LATER)


def document(table: Table, runs: Runs) -> Document:
    """Return the table as a document that depends on the runs alone."""
    paper = table.paper or PaperTable(table.title, "", ())
    builder = _Builder(table, paper, runs)
    parts = tuple(builder.parts(table.sections(runs)))
    intro = [f"The paper's numbers: {paper.conditions}."] if table.paper else []
    return Document(
        name=table.name,
        title=paper.title,
        intro=" ".join([*intro, table.intro]).rstrip(),
        parts=parts,
        sources=sources(paper),
        cells=(*paper_cells(paper), *builder.cells),
        damaged=runs.damaged_of(table.experiment),
    )


@dataclass
class _Builder:
    table: Table
    paper: PaperTable
    runs: Runs
    cells: list[Cell] = field(default_factory=list)

    def parts(self, found: Sequence[Section]) -> Iterator[Part]:
        """Yield a part for each section that has runs, and one for blocks that no section has."""
        shown: set[str] = set()
        for section in found:
            blocks = [block for block in self.table.blocks if _has_runs(section, *block.columns)]
            shown |= {block.caption for block in blocks}
            if blocks:
                made = (self._grid(section, self._shown(section, b)) for b in blocks)
                yield Part(
                    grids=(*made, *self._pairs(section)),
                    title=section.title(self.table.experiment),
                    notes=tuple(self._notes(section)),
                    key=section.key,
                )
        empty = Section({}, [Row(method, ()) for method in self.table.methods])
        rest = [block for block in self.table.blocks if block.paper and block.caption not in shown]
        if rest:
            grids = tuple(self._grid(empty, block) for block in rest)
            yield Part(grids, "No runs yet" if shown else "")
        if not rest and not shown:
            missing = tuple((method, "missing") for method in self.table.methods)
            yield Part((Grid((self.table.line_title, "state"), missing),), "No runs yet")

    def _shown(self, section: Section, block: Block) -> Block:
        """The block without columns of our own that have neither runs nor plans."""
        if block.paper:
            return block
        planned = self.runs.plans.tasks(section.begun[0].runs[0])
        columns = tuple(
            column
            for column in block.columns
            if planned & set(column.tasks) or _has_runs(section, column)
        )
        return replace(block, columns=columns)

    def _grid(self, section: Section, block: Block) -> Grid:
        lines: list[tuple[object, ...]] = []
        for method, name in self._methods(section):
            printed = [self.paper.find(name, column.title)[:1] for column in block.columns]
            if block.paper and any(printed):
                lines.append((name, "paper", *map(shown_as, block.columns, printed)))
            for row in [row for row in section.rows if row.method == method]:
                ours = [self._measured(section, row, column) for column in block.columns]
                if not block.paper and all(one.state in ABSENT for one in ours):
                    continue
                label = section.label(row)
                found = [
                    one.cell(label, row.method, section.key, cells[0].value if cells else None)
                    for one, cells in zip(ours, printed, strict=True)
                ]
                self.cells += found
                lines.append((label, "ours", *(cell.text for cell in found)))
                if any(cell.difference is not None for cell in found):
                    lines.append(("", "difference", *map(_difference, block.columns, found)))
        if block.counts and (control := self.table.info.control):
            verdicts = [counts(section, column, control) for column in block.columns]
            lines.append(("counts", "", *map(in_words, verdicts)))
        header = (self.table.line_title, "", *(column.title for column in block.columns))
        if not block.paper:  # all lines are ours: drop the column that says so
            header, lines = header[:1] + header[2:], [line[:1] + line[2:] for line in lines]
        return Grid(header, tuple(lines), block.caption)

    def _measured(self, section: Section, row: Row, column: Column) -> Measured:
        one = measure(row, column, self.runs.plans)
        if one.state != "missing" or not section.begun:
            return one
        run = section.begun[0].runs[0]
        lines = self.table.info.lines[self.table.lines] if self.table.lines else None
        if self.runs.plans.later(run, row.method, column.tasks, lines):
            return replace(one, state=LATER)
        shared = self.table.info.shared  # whose task is trained with another's
        if shared and shared.task in column.tasks:
            return one
        left_out = self.runs.plans.leaves_out(run, row.method, column.tasks)
        return replace(one, state=NOT_PLANNED) if left_out else one

    def _pairs(self, section: Section) -> Iterator[Grid]:
        found = paired_differences.grid(self.table, section)
        if found is not None:
            self.cells += found[1]
            yield found[0]

    def _methods(self, section: Section) -> Iterator[tuple[str | None, str | None]]:
        yield from self.table.rows
        known = {method for method, _ in self.table.rows}
        for method in dict.fromkeys(row.method for row in section.rows):
            if method not in known:
                yield method, None

    def _notes(self, section: Section) -> Iterator[str]:
        """Say how the numbers were obtained."""
        if section.reduced:
            yield f"† A reduced run: {section.key['data']}."
        yield from self.table.notes_on(section)
        yield from last_doubling.note(self.table, section, self.runs)
        trained = self.table.info.trained
        details = f" ({trained.details})" if trained.details else ""
        yield f"not trained: {trained.unmet}{details}."
        if any(cell.state == LATER and cell.key == section.key for cell in self.cells):
            yield "later: not in the first stage; `make reproduce SEEDS=all` does it."
        if section.key["profile"] != "paper":
            yield (
                "Backbone and data are not the paper's: a difference is one of models and data as "
                "much as of methods."
            )
        varying = section.varying()
        first = section.begun[0]
        common = [name for name in sorted(first.settings) if name not in varying]
        machines = {run.hardware for run in section.runs}
        yield f"All rows: {first.describe(common)}. On {'; '.join(sorted(machines))}."
        for row in section.begun:
            about = [row.describe(varying)] if varying else []
            about += [self.table.row_note(row, self.table.info)] if self.table.row_note else []
            about += [
                f"{run.task} seed {run.seed} failed ({formats.one_line(run.reason)})"
                for run in row.runs
                if run.state == "failed"
            ]
            if any(about):
                yield f"{section.label(row)}: {'. '.join(filter(None, about))}."
        yield (
            f"The runs behind a number: `zia tables --explain {self.table.name} ROW COLUMN`, "
            "or the column `runs` of cells.csv."
        )


def _has_runs(section: Section, *columns: Column) -> bool:
    return any(row.of(column.tasks).runs for row in section.rows for column in columns)


def _difference(column: Column, cell: Cell) -> str:
    if cell.difference is None:
        return formats.NOTHING
    return formats.difference(cell.difference, column.format)
