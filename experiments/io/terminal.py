"""Draw progress and tables: in colour in a terminal, plain and 80 columns wide in a pipe."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.io.output import one_line, plain, tell

if TYPE_CHECKING:  # importing rich takes 0.1 s, too much for `zia --help`
    from rich.console import Console, ConsoleOptions

STYLES = {
    "done": "green",
    "running": "cyan",
    "preempted": "yellow",
    "interrupted": "yellow",
    "failed": "red",
    "needs data": "yellow",
    "ok": "green",
}
NUMBERS = frozenset({"step", "loss", "ETA", "time", "GB", "missing", "pending", "invalid", *STYLES})
FOLDED = frozenset({"run", "host", "state", "detail"})
# Left out in this order if a terminal is too narrow; runs and states never are.
OPTIONAL = (
    "host",
    "node",
    "memory",
    "GB",
    "time",
    "lr",
    "ETA",
    "id",
    "loss",
    "step",
)
LONGEST_WORD = 16  # longer words are broken in folded columns
GAP = 3  # characters between two columns
LINES_WITHOUT_TERMINAL = 20  # progress lines of one run in a log file


def console() -> "Console":
    """A console on stdout that shows text as it is, without markup or escape codes."""
    from rich.console import Console
    from rich.text import Text

    class Plain(Console):
        def render_str(self, text: str, **options: Any) -> Text:
            return super().render_str(plain(text), **options)

    return Plain(highlight=False, soft_wrap=False, markup=False, emoji=False)


def duration(seconds: float | None) -> str:
    """Seconds as `0:03:10`; a dash if unknown."""
    if seconds is None:
        return "-"
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02d}:{rest:02d}"


def number(value: float | None, pattern: str) -> str:
    """The formatted number; a dash if unknown."""
    return "-" if value is None else format(value, pattern)


def result_line(result: Mapping[str, Any]) -> str:
    """The numbers of a result, for example `val_loss 2.012, train_seconds 301.2`."""
    numbers = {name: value for name, value in result.items() if type(value) in (int, float)}
    return ", ".join(
        f"{name} {value:,}" if isinstance(value, int) else f"{name} {value:.4g}"
        for name, value in numbers.items()
    )


@dataclass(frozen=True)
class Table:
    """A table of texts that fits the width of the terminal.

    In a narrow terminal, columns in FOLDED wrap and all others keep their width. If that does not
    suffice, those in OPTIONAL are left out and named below the table.
    """

    columns: Sequence[str]
    rows: Sequence[Sequence[str]]

    def __rich_console__(self, console: "Console", options: "ConsoleOptions") -> Iterator[Any]:
        from rich.text import Text

        shown = list(self.columns)
        optional = [name for name in OPTIONAL if name in shown]
        while (
            sum(map(self._least, shown)) + GAP * (len(shown) - 1) > options.max_width and optional
        ):
            shown.remove(optional.pop(0))
        yield self._drawn(shown)
        if left_out := [name for name in self.columns if name not in shown]:
            yield Text(f"not shown, too narrow: {', '.join(left_out)}")

    def _cells(self, name: str) -> list[str]:
        place = self.columns.index(name)
        return [one_line(row[place]) for row in self.rows]

    def _least(self, name: str) -> int:
        """The least width of a column; if folded, that of its longest word."""
        cells = [name, *self._cells(name)]
        words = [word for cell in cells for word in cell.split()] if name in FOLDED else cells
        return max(min(len(word), LONGEST_WORD) for word in words) if words else 0

    def _drawn(self, shown: Sequence[str]) -> Any:
        from rich import table
        from rich.box import SIMPLE_HEAD
        from rich.text import Text

        drawn = table.Table(box=SIMPLE_HEAD, pad_edge=False, show_edge=False)
        for name in shown:
            drawn.add_column(
                name,
                justify="right" if name in NUMBERS else "left",
                no_wrap=name not in FOLDED,
                overflow="fold",
                min_width=self._least(name) if name in FOLDED else None,
            )
        for row in zip(*map(self._cells, shown), strict=True):
            drawn.add_row(*(Text(cell, style=STYLES.get(cell, "")) for cell in row))
        return drawn


def measures(fields: dict[str, Any]) -> str:
    """Loss, learning rate, speed and remaining time of a training step in one short line."""
    return (
        f"loss {number(fields.get('loss'), '.4f')}  lr {number(fields.get('lr'), '.1e')}  "
        f"{number(fields.get('tokens_per_s'), '.0f')} tok/s  ETA {duration(fields.get('eta_s'))}"
    )


@contextmanager
def progress() -> Iterator[Callable[..., None]]:
    """Yield `show(step=, total=, loss=, lr=, tokens_per_s=, eta_s=)`.

    In a terminal it moves a bar; elsewhere it prints about twenty lines per run.
    """
    output = console()
    if not output.is_terminal:
        yield _plain_progress
        return

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

    columns = (
        BarColumn(bar_width=None),
        MofNCompleteColumn(),
        TextColumn("{task.fields[text]}", markup=False),
    )
    with Progress(*columns, console=output, expand=True) as bar:
        task = bar.add_task("", total=None, text="starting")

        def show(**fields: Any) -> None:
            bar.update(task, completed=fields["step"], total=fields["total"], text=measures(fields))

        yield show


def _plain_progress(**fields: Any) -> None:
    step, total = fields["step"], fields["total"]
    every = max(1, total // LINES_WITHOUT_TERMINAL)
    if step % every == 0 or step == total:
        tell(f"step {step}/{total}  {measures(fields)}")


def side_by_side(prompt: str, answers: Mapping[str, str]) -> None:
    """Print a prompt, and below it the answers beside each other, under their labels."""
    from rich.table import Table
    from rich.text import Text

    output = console()
    output.print(Text(plain(prompt), style="bold"))
    drawn = Table(*answers, expand=True, show_lines=True)
    for column in drawn.columns:
        column.ratio = 1
    drawn.add_row(*(Text(plain(answer)) for answer in answers.values()))
    output.print(drawn)
