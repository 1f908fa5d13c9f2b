"""What a table shows; `read` makes it from a file."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from experiments.harness.report_info import ReportInfo
from experiments.report.experiments import final_runs, lines
from experiments.report.paper import PaperTable
from experiments.report.rows import SECTION_OF_TASKS, Column, Row, Section, sections
from experiments.report.run import Run
from experiments.report.runs import Runs

Rows = tuple[tuple[str | None, str | None], ...]


@dataclass(frozen=True)
class Block:
    """Columns side by side."""

    columns: tuple[Column, ...]
    caption: str = ""
    paper: bool = True  # whether the paper has these columns
    counts: bool = False  # whether a last line says which tasks count


@dataclass(frozen=True)
class Headline:
    """A score that a figure shows beside the paper's."""

    title: str
    column: str  # of the table
    paper: tuple[str, ...]  # the paper's columns whose mean stands beside it; default: `column`
    tasks: tuple[str, ...]  # instead of the column's; `@name` is a group, in each profile its own
    over: str  # the method whose score is 1; empty: none


@dataclass(frozen=True)
class Table:
    """A table; `read` describes its fields."""

    name: str
    order: int
    layout: str
    experiment: str  # empty: the paper's numbers stand alone
    info: ReportInfo  # of the experiment
    paper: PaperTable | None
    title: str
    intro: str
    line_title: str
    lines: str | None
    figure: str | None
    tasks: tuple[str, ...]
    shown_settings: tuple[str, ...]
    rows: Rows
    blocks: tuple[Block, ...]
    reads: tuple[str, ...]
    reads_if_there: tuple[str, ...]
    notes: tuple[Callable[[Section, ReportInfo], Iterable[str]], ...]
    row_note: Callable[[Row, ReportInfo], str] | None
    pairs: tuple[tuple[str, str], ...]
    paired: tuple[Column, ...]
    headlines: tuple[Headline, ...]
    drawn_with: tuple[str, ...]  # tables of other data whose headlines are in the same figure
    ours: str  # of a comparison: the method that the others are compared with

    @property
    def methods(self) -> list[str]:
        """Our lines that are shown even without runs."""
        return [method for method, _ in self.rows if method is not None]

    @property
    def columns(self) -> list[Column]:
        """The columns of all blocks."""
        return [column for block in self.blocks for column in block.columns]

    def column(self, title: str) -> Column:
        """Return the column of that title."""
        return next(column for column in self.columns if column.title == title)

    def runs(self, runs: Runs) -> list[Run]:
        """Return the runs that the table shows; ZiaError names a damaged one."""
        if not self.experiment:
            return []
        fields = [c.field for c in self.columns if c.field and not c.if_there]
        if_there = [c.field for c in self.columns if c.if_there]
        found = final_runs(
            runs,
            self.experiment,
            self.info,
            (*fields, *self.reads),
            (*if_there, *self.reads_if_there),
        )
        found = [run for run in found if not self.tasks or run.task in self.tasks]
        return lines(self.info, self.lines, found) if self.lines else found

    def sections(self, runs: Runs, by: tuple[str, ...] = SECTION_OF_TASKS) -> list[Section]:
        """Return these runs as sections of rows."""
        return sections(self.runs(runs), self.methods, by, self.info.trained, self.shown_settings)

    def notes_on(self, section: Section) -> Iterator[str]:
        """Yield the table's notes on a section."""
        for note in self.notes:
            yield from note(section, self.info)
