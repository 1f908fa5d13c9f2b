"""Write all figures."""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.stored import PROMPT_SHARE
from experiments.io.files import check_output, write_atomic
from experiments.report.figures import (
    beside_paper,
    gates,
    initialisation,
    layers,
    losses,
    overfitting,
    pareto,
    prompt_share,
    style,
    task_bars,
    verdicts,
)
from experiments.report.figures.drawn import Drawn
from experiments.report.runs import Runs, read_runs
from experiments.report.tables.read import tables


@dataclass(frozen=True)
class Kind:
    """A kind of figure; `table` names it in the files of tables whose runs it shows."""

    title: str
    draw: Callable[[Runs], Iterator[Drawn]]
    runs: str
    table: str = ""

    @property
    def needs(self) -> str:
        """The runs without which there is no such figure."""
        of = {table.experiment for table in tables() if table.figure == self.table}
        return f"{self.runs} of {' or '.join(sorted(of))}" if self.table else self.runs


KINDS = (
    Kind("claims by profile", verdicts.draw, "finished runs of the methods that a claim compares"),
    Kind("the paper's scores beside ours", beside_paper.draw, "finished runs"),
    Kind("score by task", task_bars.draw, "finished runs", "task_bars"),
    Kind("score against tuned parameters", pareto.draw, "finished runs of two methods"),
    Kind("training loss", losses.draw, "finished runs with a metrics.jsonl"),
    Kind(
        "training loss with and without zero-initialisation",
        initialisation.draw,
        "finished ablations, with a metrics.jsonl,",
        "initialisation",
    ),
    Kind("accuracy by inserted layers", layers.draw, "finished ablations", "layers"),
    Kind("over-fitting by epochs", overfitting.draw, "finished ablations", "overfitting"),
    Kind(
        "gates by layer and head",
        gates.draw,
        "a finished zero-init run that recorded them, or that has its adapter.safetensors",
    ),
    Kind(
        "share of the prompt term by layer and head",
        prompt_share.draw,
        f"a finished zero-init run that recorded it in {PROMPT_SHARE}",
    ),
)


def write_figures(
    roots: Sequence[Path], out: Path, *, keep_going: bool = False
) -> tuple[list[Path], list[str]]:
    """Write every figure whose runs exist as PNG and PDF; return the paths, and what is left out.

    Equal runs and one version of matplotlib give equal bytes. ZiaError names a damaged run
    folder; with `keep_going` it is left out and named among the sentences.
    """
    check_output(out)
    runs = read_runs(roots, keep_going=keep_going)
    return write_drawn(by_kind(runs), runs, out)


def write_drawn(
    figures: Iterable[tuple[Kind, list[Drawn]]], runs: Runs, out: Path
) -> tuple[list[Path], list[str]]:
    """Write figures of these runs, as `write_figures` does."""
    made: dict[str, bytes] = {}
    left_out = []
    for kind, drawn in figures:
        if all(figure.name == losses.PAPER for figure in drawn):
            left_out.append(f"left out: {kind.title}, which needs {kind.needs}")
        for figure in drawn:
            made |= {f"{figure.name}.png": figure.png, f"{figure.name}.pdf": figure.pdf}
    left_out += [f"left out, because damaged: {s}" for _, s in sorted(runs.damaged.items())]
    out.mkdir(parents=True, exist_ok=True)
    for name, content in made.items():
        write_atomic(out / name, content)
    return [out / name for name in made], left_out


def by_kind(runs: Runs) -> Iterator[tuple[Kind, list[Drawn]]]:
    """Yield each kind with its figures."""
    for kind in KINDS:
        with style.styled():
            drawn = list(kind.draw(runs))
        yield kind, drawn
