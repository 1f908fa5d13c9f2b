"""The paper's efficiency table beside ours: parameters tuned, storage, training time."""

from collections.abc import Iterator
from math import isnan

from experiments.report import formats
from experiments.report.document import Cell, Document, Grid, Part
from experiments.report.measured import measure
from experiments.report.paper import PaperTable, paper_table
from experiments.report.planned_seeds import Plans
from experiments.report.rows import Column, Section, sections, validation_fell
from experiments.report.runs import Runs, select
from experiments.report.tables.paper_cells import paper_cells, sources

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
# Older runs did not measure it, and others had no text.
OTHER_TEXT = Column("language_loss", "loss on other text", "nats per token", formats.number)
OF_OTHER_TEXT = (
    "Loss on other text: after training, on text that is no instruction and that nobody trained on "
    "(mini: 64 articles of the generated world; else 64 paragraphs of SQuAD's dev-v1.1); frozen is "
    "the backbone."
)
MEASURED = {column.field: float | None for column in BESIDE_PAPER + OURS_ONLY}


def document(runs: Runs) -> Document:
    """Return the table as a function of the run folders alone, to the byte.

    ZiaError names a run folder with a damaged file.
    """
    paper = paper_table("efficiency")
    newer = {OTHER_TEXT.field: float | None}
    found = select(runs, EXPERIMENT, MEASURED, newer=newer)
    tables = sections(found, list(PAPER_ROWS), fell=validation_fell)
    plans = Plans()
    return Document(
        name="efficiency",
        title=paper.title,
        intro=(
            f"The paper's numbers: {paper.conditions}. Ours, of other models and machines, stand "
            "beside them and not against them."
        ),
        parts=tuple(_part(section, paper, plans) for section in tables),
        sources=sources(paper),
        cells=(*paper_cells(paper), *(c for section in tables for c in _cells(section, plans))),
        damaged=runs.damaged_of(EXPERIMENT),
    )


def _part(section: Section, paper: PaperTable, plans: Plans) -> Part:
    key = section.key
    header = ["method", "in the paper"]
    for column in BESIDE_PAPER:
        header += [f"{column.title}: paper", "ours"]
    lines: list[tuple[object, ...]] = []
    for row in section.rows:
        name = PAPER_ROWS.get(row.method)
        line: list[object] = [section.label(row), name or formats.NOTHING]
        for column in BESIDE_PAPER:
            cells = paper.find(name, column.title)
            line += [
                cells[0].printed if cells else formats.NOTHING,
                row.measured(column) if len(row.done) else row.state,
            ]
        lines.append(tuple(line))
    beside = Grid(tuple(header), tuple(lines))
    if not section.begun:
        return Part((beside,))
    columns = _ours_only(section)
    ours = Grid(
        ("method", *(column.title for column in columns), "seeds", "state"),
        tuple(
            (
                section.label(row),
                *map(row.measured, columns),
                formats.seeds(len(row.done), plans.seeds(row.runs[0])),
                row.state,
            )
            for row in section.begun
        ),
    )
    title = (
        f"{key['profile']}: {key['backbone']}, data {key['data']} "
        f"({EXPERIMENT} version {key['version']}, task {key['task']})"
    )
    return Part((beside, ours), title, tuple(_notes(section)))


def _ours_only(section: Section) -> tuple[Column, ...]:
    """The columns beside which the paper has none."""
    values = (run.value(OTHER_TEXT.field) for row in section.rows for run in row.done)
    return OURS_ONLY if all(map(isnan, values)) else (*OURS_ONLY, OTHER_TEXT)


def _notes(section: Section) -> Iterator[str]:
    """Say how the numbers were obtained, and name every run folder."""
    varying = section.varying()
    common = [name for name in sorted(section.begun[0].settings) if name not in varying]
    if section.reduced:
        yield f"† A reduced run: of the data it saw {section.key['data']}."
    if "instruct" in section.key["backbone"].lower():
        yield "The backbone is instruction-tuned already, which the paper's is not."
    if OTHER_TEXT in _ours_only(section):
        yield OF_OTHER_TEXT
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


def _cells(section: Section, plans: Plans) -> Iterator[Cell]:
    for row in section.rows:
        for column in BESIDE_PAPER + _ours_only(section):
            one = measure(row, column, plans)
            yield one.cell(section.label(row), row.method, section.key)
