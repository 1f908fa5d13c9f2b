"""Captions: COCO beside the paper (Table 5 of v2), and Flickr8k, which stands beside nothing."""

from collections.abc import Iterator

from experiments.report import formats
from experiments.report.paper import paper_table
from experiments.report.rows import NOT_TRAINED, Column, Section
from experiments.report.tables.chosen_rates import NEWER, chosen, selection
from experiments.report.tables.definition import Block, Table

EXPERIMENT, COCO, FLICKR = "coco_caption", "coco", "flickr8k"
POINTS = formats.decimals(1)
PAIRS = tuple(
    ("zero-init", other) for other in ("zero-init-text", "zero-init-queries", "random-init", "lora")
)


def _score(field: str, title: str) -> Column:
    """A score as papers print it: a hundred times what the scorer gives."""
    return Column(field, title, "points", POINTS, scale=100, compared=True)


BLEU = tuple(_score(f"Bleu_{n}", f"BLEU@{n}") for n in range(1, 5))
ROUGE, CIDER = _score("ROUGE_L", "ROUGE-L"), _score("CIDEr", "CIDEr")
TRAINED = (
    Column("tuned_parameters", "tuned parameters", "parameters", formats.count),
    Column("adapter_bytes", "storage", "bytes", formats.storage),
    Column("val_loss_start", "validation loss before", "nats per token", formats.number),
    Column("val_loss", "after", "nats per token", formats.number),
)
CAPTIONED = (
    Column("images", "captioned images", "images", formats.count),
    Column("empty_captions", "empty captions", "captions", formats.decimals(1)),
)


def notes(section: Section) -> Iterator[str]:
    """Say how the captions were scored, and what the floor is."""
    yield (
        "BLEU, ROUGE-L and CIDEr-D times 100, mean ± standard deviation (number of seeds), after "
        "the last epoch, of one caption an image against all of its references."
    )
    yield "zero-init-text sees no image and gives all of them one caption: the floor."
    yield from selection(section, "the loss on the validation captions")
    yield NOT_TRAINED


def _only_printed(title: str) -> Column:
    """A column that no run has: it is in the table for the paper's numbers."""
    return Column("", title, "M", formats.decimals(1))


TABLES = (
    Table(
        name="coco",
        experiment=EXPERIMENT,
        paper="coco",
        rows=tuple(
            ("zero-init" if row == "LLaMA-Adapter" else None, row)
            for row in paper_table("coco").rows()
        ),
        blocks=(
            Block(
                (
                    _only_printed("pre-training pairs"),
                    _only_printed("fine-tuning pairs"),
                    BLEU[3],
                    CIDER,
                )
            ),
            Block(
                (*BLEU[:3], ROUGE, *CAPTIONED), "Scores that the paper does not print", paper=False
            ),
            Block(TRAINED, "What was trained", paper=False),
        ),
        tasks=(COCO,),
        newer=NEWER,
        notes=notes,
        about_row=chosen,
        pairs=PAIRS,
        paired=(BLEU[3], ROUGE, CIDER),
    ),
    Table(
        name="flickr8k",
        experiment=EXPERIMENT,
        paper=None,
        title="Flickr8k captions",
        rows=(("zero-init", None), ("zero-init-text", None)),
        blocks=(
            Block((*BLEU, ROUGE, CIDER, *CAPTIONED), paper=False),
            Block(TRAINED, "What was trained", paper=False),
        ),
        intro="Other images, references and sizes than COCO's: not comparable with its table.",
        tasks=(FLICKR,),
        newer=NEWER,
        notes=notes,
        about_row=chosen,
        pairs=PAIRS,
        paired=(*BLEU, ROUGE, CIDER),
    ),
)
