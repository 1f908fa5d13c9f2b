"""What a table of methods shows, as data."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

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
    paper: str | None  # the file of the paper's numbers; None: the paper has no such table
    rows: tuple[tuple[str | None, str | None], ...]
    blocks: tuple[Block, ...]
    title: str = ""  # of a table that the paper does not have
    intro: str = ""
    lines: str = "method"  # what a line is
    tasks: tuple[str, ...] = ()  # whose runs are read; empty: of all tasks
    only: Mapping[str, object] = field(default_factory=dict)  # settings that a run must have
    # Which of these runs are shown, each with the name of its line if that is not its method.
    arranged: "Callable[[Sequence[Run]], list[Run]]" = list
    shown: tuple[str, ...] = ()  # settings in the label of every line of ours
    fell: Callable[[Run], bool] = training_fell
    # Further fields that the results must have; those of the columns and of `fell` are added.
    measured: Mapping[str, Any] = field(default_factory=dict)
    # Fields that are read where they are there: results of older runs do not have them.
    newer: Mapping[str, Any] = field(default_factory=dict)
    notes: "Callable[[Section], Iterator[str]] | None" = None
    about_row: "Callable[[Row], str] | None" = None
    # Lines whose paired difference is shown, the first minus the second, in the columns `paired`.
    pairs: tuple[tuple[str, str], ...] = ()
    paired: tuple[Column, ...] = ()

    @property
    def methods(self) -> list[str]:
        """Our lines that are there even without runs."""
        return [method for method, _ in self.rows if method is not None]

    def fields(self) -> dict[str, Any]:
        """Return every field of result.json that the table reads, with its type."""
        columns = [column for block in self.blocks for column in block.columns]
        read = {column.field: float | None for column in columns if column.field}
        ends = {"train_loss_first": float | None, "train_loss_last": float | None}
        return read | ends | dict(self.measured)

    def sections(self, runs: Runs) -> list[Section]:
        """Return the runs that the table shows; ZiaError names one with a damaged file."""
        found: list[Run] = []
        if self.experiment:
            found = select(runs, self.experiment, self.fields(), self.only, newer=self.newer)
        found = [run for run in found if not self.tasks or run.task in self.tasks]
        return sections(self.arranged(found), self.methods, SECTION_OF_TASKS, self.fell, self.shown)
