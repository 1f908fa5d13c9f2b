"""ScienceQA by class of question (paper Table 2), and our own split of its image questions."""

from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from math import isnan, nan

from experiments.metrics.scienceqa.scorer import CLASSES
from experiments.report import formats
from experiments.report.paper import paper_table
from experiments.report.rows import NOT_TRAINED, Column, Section
from experiments.report.tables.chosen_rates import NEWER, chosen, selection
from experiments.report.tables.definition import Block, Table
from experiments.scienceqa.evaluate import BASELINES
from experiments.scienceqa.plan import NAME, OWN, TASK
from experiments.scienceqa.subsets import OWN_SPLIT

PERCENT = formats.decimals(2)
# Which of our methods stands beside which row of the paper; its other rows are others' methods.
BESIDE = {"LLaMA-Adapter_T (text only)": "zero-init-text", "LLaMA-Adapter": "zero-init"}
PAIRS = (
    ("zero-init", "zero-init-text"),  # what the image adds
    ("zero-init-queries", "zero-init-text"),
    ("lora", "lora-text"),
    ("zero-init", "random-init"),
    ("zero-init-text", "random-init-text"),
    ("zero-init", "lora"),
    ("zero-init-text", "lora-text"),
    ("zero-init-text", "frozen"),
)

READ_IF_THERE = {**NEWER, **BASELINES}


def _percent(field: str, title: str) -> Column:
    return Column(field, title, "%", PERCENT, compared=True)


CLASS_COLUMNS = {one.column: _percent(one.key, one.column) for one in CLASSES}
TUNED = Column("tuned_parameters", "tuned parameters", "parameters", formats.count)
LIKELIHOOD = _percent("likelihood_accuracy", "likelihood accuracy")
ANSWERS = (
    LIKELIHOOD,
    Column("unparsable", "unparsable", "answers", formats.decimals(1)),
    Column("questions", "of questions", "questions", formats.count),
)
TRAINED = (
    Column("adapter_bytes", "storage", "bytes", formats.storage),
    Column("val_loss_start", "validation loss before", "nats per token", formats.number),
    Column("val_loss", "after", "nats per token", formats.number),
)


def solution_first(section: Section) -> list[str]:
    """Say that the solution is answered before the letter, where it is: not as in the paper."""
    if all(run.settings.get("output", "A") == "A" for row in section.begun for run in row.runs):
        return []
    return [
        "The format is QCM-EA: the solution comes first, then the letter. The paper's is QCM-A, "
        "the letter alone."
    ]


def without_a_model(section: Section) -> Iterator[str]:
    """Say what a random option, and always the same letter, would score on these questions."""
    done = [run for row in section.begun for run in row.done]
    found = {name: {run.value(name) for run in done if name in run.result} for name in BASELINES}
    chance, pictured, majority = (_shown(values) for values in found.values())
    if chance:
        of_images = f" ({pictured} on those with an image)" if pictured else ""
        yield (
            f"A random option would score {chance}{of_images}; always the letter that is right "
            f"most often in training, {majority}."
        )


def _shown(values: AbstractSet[float]) -> str:
    """Values of runs, which are one number where the questions are the same."""
    known = sorted(value for value in values if not isnan(value))
    return " or ".join(PERCENT(value, nan) for value in known)


def notes(section: Section) -> Iterator[str]:
    """Say by which two protocols the answers are read, and what the rows are."""
    yield (
        "Accuracy in percent, mean ± standard deviation (number of seeds), after the last epoch, "
        "of greedy answers read by the official rule. unparsable: answers that it cannot read, "
        "counted as wrong (the official script draws an option at random)."
    )
    first = solution_first(section)
    yield from first
    behind = 'the solution that it wrote and "' if first else '"Answer: '
    yield (
        f'likelihood accuracy, another protocol: the likeliest letter behind {behind}The answer is"'
        ", which is always an answer."
    )
    yield from without_a_model(section)
    yield from selection(section, "the loss on the validation questions")
    yield (
        "A name that ends in -text sees no image; frozen is the backbone without training; "
        "random-init is one soft-max without gate."
    )
    yield NOT_TRAINED


MAIN = Table(
    name="scienceqa",
    experiment=NAME,
    paper="scienceqa",
    rows=tuple((BESIDE.get(row), row) for row in paper_table("scienceqa").rows()),
    blocks=(
        Block((TUNED, *(CLASS_COLUMNS[name] for name in paper_table("scienceqa").columns()[1:]))),
        Block(ANSWERS, "By likelihood, and answers that could not be read", paper=False),
        Block(TRAINED, "What was trained", paper=False),
    ),
    tasks=(TASK,),
    only={"evaluated_on": "test"},
    newer=READ_IF_THERE,
    notes=notes,
    about_row=chosen,
    pairs=PAIRS,
    paired=(CLASS_COLUMNS["Avg"], CLASS_COLUMNS["IMG"], LIKELIHOOD),
)
ACCURACY = _percent("acc_average", "accuracy")
OWN_TABLE = Table(
    name="own_split",
    experiment=NAME,
    paper=None,
    title="ScienceQA's image questions, own split",
    rows=tuple((method, None) for method in ("zero-init", "zero-init-text")),
    blocks=(
        Block((ACCURACY, *ANSWERS), paper=False),
        Block((TUNED, *TRAINED), "What was trained", paper=False),
    ),
    intro=(
        "Our own split of the test questions that have an image, not the benchmark: the training "
        "and validation questions are others of them. It is not comparable with the paper's IMG "
        f"column. All questions have an image; none has its hint, in the data {OWN_SPLIT}."
    ),
    tasks=(OWN,),
    only={"evaluated_on": "test"},
    newer=READ_IF_THERE,
    notes=notes,
    about_row=chosen,
    pairs=PAIRS,
    paired=(ACCURACY, LIKELIHOOD),
)
TABLES = (MAIN, OWN_TABLE)
