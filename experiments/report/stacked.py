"""Tables whose lines are methods: the paper's numbers, ours below them, and the difference."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from experiments.report import formats
from experiments.report.control import counts, in_words
from experiments.report.document import Cell, Document, Grid, Part
from experiments.report.measured import measure
from experiments.report.paper import PaperTable, paper_table
from experiments.report.planned import Plans
from experiments.report.printed import paper_cells, shown_as, sources
from experiments.report.rows import SECTION_OF_TASKS, Column, Row, Section, sections, training_fell
from experiments.report.runs import Run, Runs, select


@dataclass(frozen=True)
class Block:
    """Columns that stand side by side."""

    columns: tuple[Column, ...]
    caption: str = ""
    paper: bool = True  # whether the paper has these columns
    # The tasks count only where the first method's mean is above the second's.
    control: tuple[str, str] | None = None


@dataclass(frozen=True)
class Table:
    """What a table shows. `rows` names our method (None: we have none) and the paper's row."""

    name: str
    experiment: str | None  # None: the table reads no runs
    paper: str  # the file of the paper's numbers
    rows: tuple[tuple[str | None, str | None], ...]
    blocks: tuple[Block, ...]
    intro: str = ""
    lines: str = "method"  # what a line is
    only: Mapping[str, object] = field(default_factory=dict)  # settings that a run must have
    fell: Callable[[Run], bool] = training_fell
    # Further fields that the results must have; those of the columns and of `fell` are added.
    measured: Mapping[str, Any] = field(default_factory=dict)
    notes: "Callable[[Section], Iterator[str]] | None" = None
    about_row: "Callable[[Row], str] | None" = None

    def fields(self) -> dict[str, Any]:
        """Return every field of result.json that the table reads, with its type."""
        columns = {column.field: float | None for block in self.blocks for column in block.columns}
        ends = {"train_loss_first": float | None, "train_loss_last": float | None}
        return columns | ends | dict(self.measured)


def build(table: Table, runs: Runs) -> Document:
    """Return the table as a function of the run folders alone; ZiaError names a damaged one."""
    paper = paper_table(table.paper)
    if table.experiment is None:
        found_runs = []
    else:
        found_runs = select(runs, table.experiment, table.fields(), table.only)
    methods = [method for method, _ in table.rows if method is not None]
    found = sections(found_runs, methods, SECTION_OF_TASKS, table.fell)
    builder = _Builder(table, paper, Plans())
    parts = tuple(builder.parts(found))
    return Document(
        name=table.name,
        title=paper.title,
        intro=f"The paper's numbers: {paper.conditions}.{table.intro and ' ' + table.intro}",
        parts=parts,
        sources=sources(paper),
        cells=(*paper_cells(paper), *builder.cells),
        damaged=runs.damaged_of(table.experiment or ""),
    )


@dataclass
class _Builder:
    table: Table
    paper: PaperTable
    plans: Plans
    cells: list[Cell] = field(default_factory=list)

    def parts(self, found: Sequence[Section]) -> Iterator[Part]:
        """A part for each section that has runs, and one without runs for what none of them has."""
        shown: set[str] = set()
        for section in found:
            blocks = [block for block in self.table.blocks if self._has_runs(section, block)]
            shown |= {block.caption for block in blocks}
            if blocks:
                yield Part(
                    grids=tuple(self._grid(section, self._shown(section, b)) for b in blocks),
                    title=self._title(section),
                    notes=tuple(self._notes(section)),
                )
        empty = Section({}, list(self._without_runs()))
        rest = [block for block in self.table.blocks if block.paper and block.caption not in shown]
        if rest:
            grids = tuple(self._grid(empty, block) for block in rest)
            yield Part(grids, "No runs yet" if shown else "")

    def _without_runs(self) -> Iterator[Row]:
        for method, _ in self.table.rows:
            if method is not None:
                yield Row(method, ())

    def _has_runs(self, section: Section, block: Block) -> bool:
        return any(row.of(column.tasks).runs for row in section.rows for column in block.columns)

    def _shown(self, section: Section, block: Block) -> Block:
        """The block without columns of our own that have no runs and that nobody planned."""
        if block.paper:
            return block
        planned = self.plans.tasks(section.begun[0].runs[0])
        alone = Block((), paper=False)
        columns = tuple(
            column
            for column in block.columns
            if planned & set(column.tasks)
            or self._has_runs(section, replace(alone, columns=(column,)))
        )
        return replace(block, columns=columns)

    def _title(self, section: Section) -> str:
        key = section.key
        return (
            f"{key['profile']}: {key['backbone']}, data {key['data']} "
            f"({self.table.experiment} version {key['version']})"
        )

    def _grid(self, section: Section, block: Block) -> Grid:
        lines: list[tuple[object, ...]] = []
        for method, name in self._methods(section):
            printed = [self.paper.find(name, column.title)[:1] for column in block.columns]
            if block.paper and any(printed):
                lines.append((name, "paper", *map(shown_as, block.columns, printed)))
            for row in [row for row in section.rows if row.method == method]:
                ours = [measure(row, column, self.plans) for column in block.columns]
                if not block.paper and all(one.state == "missing" for one in ours):
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
        if block.control:
            verdicts = [counts(section, column, block.control) for column in block.columns]
            lines.append(("counts", "", *map(in_words, verdicts)))
        header = (self.table.lines, "", *(column.title for column in block.columns))
        if not block.paper:  # all lines are ours
            header, lines = header[:1] + header[2:], [line[:1] + line[2:] for line in lines]
        return Grid(header, tuple(lines), block.caption)

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
        if self.table.notes:
            yield from self.table.notes(section)
        if section.key["profile"] != "paper":
            yield (
                "Backbone and data are not the paper's: a difference is one of models and data as "
                "much as of methods."
            )
        varying = section.varying()
        first = section.begun[0]
        common = [name for name in sorted(first.settings) if name not in varying]
        machines = {machine for row in section.begun for machine in row.machines}
        yield f"All rows: {first.describe(common)}. On {'; '.join(sorted(machines))}."
        for row in section.begun:
            about = [row.describe(varying)] if varying else []
            about += [self.table.about_row(row)] if self.table.about_row else []
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


def _difference(column: Column, cell: Cell) -> str:
    if cell.difference is None:
        return formats.NOTHING
    return formats.difference(cell.difference, column.format)
