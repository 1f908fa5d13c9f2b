"""The paper's efficiency table beside ours: parameters tuned, storage, training time."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from experiments.report import formats
from experiments.report.paper import PaperTable, paper_table
from experiments.report.rows import SECTION, Column, Row, Section, sections
from experiments.report.runs import run_frame

EXPERIMENT = "alpaca_llama"
# Which of our methods stands beside which row of the paper.
PAPER_ROWS = {"full": "Alpaca", "lora": "Alpaca-LoRA", "zero-init": "LLaMA-Adapter"}


BESIDE_PAPER = (
    Column("tuned_parameters", "tuned parameters", "parameters", formats.count),
    Column("adapter_bytes", "storage", "bytes", formats.storage),
    Column("train_seconds", "training time", "seconds", formats.duration, of_machine=True),
)
OURS_ONLY = (
    Column("val_loss_start", "validation loss before", "nats per token", formats.number),
    Column("val_loss", "after", "nats per token", formats.number),
    Column("val_ppl", "perplexity", "perplexity per token", formats.number),
    Column("peak_memory_bytes", "peak memory", "bytes", formats.memory, of_machine=True),
    Column("tokens_per_s", "tokens/s", "tokens per second", formats.rate, of_machine=True),
)
MEASURED = {column.field: float | None for column in BESIDE_PAPER + OURS_ONLY}


def efficiency_table(roots: Sequence[Path]) -> tuple[str, str]:
    """Return the table as Markdown and as CSV (one line a cell, with the runs it comes from).

    A function of the run folders under `roots` alone, to the byte. ZiaError names a run folder
    with a damaged file.
    """
    paper = paper_table("efficiency")
    runs = run_frame(roots, EXPERIMENT, MEASURED)
    tables = sections(runs, list(PAPER_ROWS))
    markdown = (
        f"# {paper.title}\n\nThe paper's numbers: {paper.conditions}. Ours, of other models and "
        "machines, stand beside them and not against them.\n"
    )
    for section in tables:
        markdown += "\n" + "\n".join(_markdown(section, paper))
    return markdown + "\n" + _sources(paper), _csv(tables, paper)


def _markdown(section: Section, paper: PaperTable) -> Iterator[str]:
    key = section.key
    if key:
        yield (
            f"## {key['profile']}: {key['backbone']}, data {key['data']} "
            f"({EXPERIMENT} version {key['version']}, task {key['task']})\n"
        )
    header = ["method", "in the paper"]
    rows: list[list[object]] = []
    for column in BESIDE_PAPER:
        header += [f"{column.title}: paper", "ours"]
    for row in section.rows:
        name = PAPER_ROWS.get(row.method)
        line: list[object] = [section.label(row), name or formats.NOTHING]
        for column in BESIDE_PAPER:
            cells = paper.find(name, column.title) if name else []
            line += [
                cells[0].printed if cells else formats.NOTHING,
                row.measured(column) if len(row.done) else row.state,
            ]
        rows.append(line)
    yield formats.markdown_table(header, rows)
    begun = [row for row in section.rows if not row.runs.empty]
    if not begun:
        return
    rows = [
        [section.label(row), *map(row.measured, OURS_ONLY), len(row.done), row.state]
        for row in begun
    ]
    yield formats.markdown_table(
        ["method", *(column.title for column in OURS_ONLY), "seeds", "state"], rows
    )
    yield from _notes(section, begun)


def _notes(section: Section, rows: list[Row]) -> Iterator[str]:
    """Say how the numbers were obtained, and name every run folder."""
    varying = section.varying(rows)
    common = [name for name in sorted(rows[0].settings) if name not in varying]
    if section.reduced:
        yield f"- † A reduced run: of the data it saw {section.key['data']}."
    if "instruct" in section.key["backbone"].lower():
        yield "- The backbone is instruction-tuned already, which the paper's is not."
    yield f"- All rows: {rows[0].describe(common)}."
    for row in rows:
        text = f"- {section.label(row)}: "
        text += f"{row.describe(varying)}. " if varying else ""
        text += f"On {'; '.join(sorted(set(row.runs['hardware'])))}."
        for run in row.runs.itertuples():
            text += f" Seed {run.seed}: {run.state}"
            text += f" ({formats.one_line(run.reason)})" if run.state == "failed" else ""
            text += f", `{run.folder}`."
        yield text + "\n" if row is rows[-1] else text


def _sources(paper: PaperTable) -> str:
    """Say where the paper's numbers are from, and what it prints besides those shown."""
    usual = paper.cells[0].source
    others = [
        f"{cell.row}, {cell.column}: {cell.printed} ({cell.source}, confidence {cell.confidence})"
        for cell in paper.cells
        if (cell.source, cell.confidence) != (usual, "A")
    ]
    return f"The paper's numbers are from {usual}; from elsewhere: {'; '.join(others)}.\n"


def _csv(tables: list[Section], paper: PaperTable) -> str:
    import pandas as pd

    lines: list[dict[str, Any]] = [
        {"source": f"paper, {c.source} ({c.confidence})", "row": c.row, "column": c.column}
        | {"mean": c.value, "unit": c.unit, "state": "printed"}
        for c in paper.cells
    ]
    for section in tables:
        for row in section.rows:
            for column in BESIDE_PAPER + OURS_ONLY:
                values = row.done[column.field]
                lines.append(
                    {"source": "ours", "row": section.label(row), "column": column.title}
                    | {"mean": values.mean(), "std": values.std(), "n": int(values.count())}
                    | {"unit": column.unit, "state": row.state, **section.key}
                    | {"runs": " ".join(row.done["folder"])}
                )
    order = ["source", *SECTION, "row", "column", "mean", "std", "n", "unit", "state", "runs"]
    frame = pd.DataFrame(lines, columns=order).astype({"n": "Int64", "version": "Int64"})
    return str(frame.to_csv(index=False, lineterminator="\n", float_format="%.10g"))
