"""Tables 4, 5 and 6: ScienceQA's ablations beside the paper's numbers."""

from collections.abc import Callable, Iterator, Sequence

from experiments.backbones import language_models
from experiments.language.methods import TEXT
from experiments.report import formats
from experiments.report.rows import NOT_TRAINED, Column, Section
from experiments.report.runs import Run
from experiments.report.tables.ablation_rows import (
    METHOD,
    by_epochs,
    by_initialisation,
    by_layers,
    epochs_line,
    layers_line,
)
from experiments.report.tables.chosen_rates import chosen, selection
from experiments.report.tables.definition import Block, Table
from experiments.report.tables.scienceqa import READ_IF_THERE, solution_first, without_a_model
from experiments.scienceqa.plan import ABLATED_EPOCHS, ABLATED_LAYERS, ABLATION, NAME


def notes(section: Section) -> Iterator[str]:
    """Say what is scored, and which of our layers and epochs stand for the paper's."""
    methods = sorted({run.method for row in section.begun for run in row.runs})
    without = all(name.endswith(TEXT) for name in methods)
    yield (
        f"Accuracy on the validation questions, greedy answers; methods {', '.join(methods)}"
        + (", without images, which the paper's have." if without else ".")
    )
    backbone = language_models.BACKBONES.get(str(section.key["backbone"]))
    depth = f"; the backbone has {backbone.layers} layers" if backbone else ""
    yield (
        "A line is called by the paper's layers or epochs, as which it counts: ours are the same "
        "share of the backbone's depth, rounded, but of all layers only for 32 of 32; and have the "
        f"same ratio to the other epochs{depth}."
    )
    yield from solution_first(section)
    yield from without_a_model(section)
    yield from selection(section, "the loss on the validation questions, for the main table")
    yield NOT_TRAINED


ACCURACY = Column("acc_average", "validation accuracy", "%", formats.decimals(2), compared=True)
LIKELIHOOD = Column(
    "likelihood_accuracy", "likelihood accuracy", "%", formats.decimals(2), compared=True
)
TUNED = Column("tuned_parameters", "tuned parameters", "parameters", formats.count)
TRAINING = Column("train_loss_epoch", "training loss", "nats", formats.number)
VALIDATION = Column("val_loss", "validation loss", "nats", formats.number)
OURS_ONLY = (
    LIKELIHOOD,
    Column("unparsable", "unparsable", "answers", formats.decimals(1)),
    Column("questions", "of questions", "questions", formats.count),
)


def _table(
    name: str,
    lines: str,
    arranged: Callable[[Sequence[Run]], list[Run]],
    rows: tuple[tuple[str | None, str], ...],
    columns: tuple[Column, ...],
    more: tuple[Column, ...],
    pairs: tuple[tuple[str, str], ...],
    shown: tuple[str, ...] = (),
) -> Table:
    return Table(
        name=name,
        experiment=NAME,
        paper=name,
        rows=rows,
        blocks=(Block(columns), Block((*more, *OURS_ONLY), "Ours alone", paper=False)),
        lines=lines,
        tasks=(ABLATION,),
        only={"evaluated_on": "val"},
        arranged=arranged,
        shown=shown,
        newer=READ_IF_THERE,
        notes=notes,
        about_row=chosen,
        pairs=pairs,
        paired=(ACCURACY, LIKELIHOOD),
    )


def _steps(names: Sequence[str]) -> tuple[tuple[str, str], ...]:
    """Each line against the one before it."""
    return tuple(zip(names[1:], names, strict=False))


_LAYERS = [layers_line(layers) for layers in ABLATED_LAYERS]
_EPOCHS = [epochs_line(epochs) for epochs in ABLATED_EPOCHS]
TABLES = (
    _table(
        "layers",
        "layers",
        by_layers,
        (
            *((layers_line(layers), str(layers)) for layers in ABLATED_LAYERS),
            (None, "gain from 10 to 20"),
            (None, "gain from 20 to 30"),
        ),
        (TUNED, ACCURACY),
        (TRAINING, VALIDATION),
        _steps(_LAYERS),
        ("num_layers",),
    ),
    _table(
        "initialisation",
        "method",
        by_initialisation,
        (
            ("random-init", "Rand-Init attention"),
            (METHOD, "Zero-Init attention"),
            (None, "gain"),
        ),
        (ACCURACY,),
        (TUNED, TRAINING, VALIDATION),
        ((METHOD, "random-init"),),
    ),
    _table(
        "overfitting",
        "epochs",
        by_epochs,
        tuple((epochs_line(epochs), str(epochs)) for epochs in ABLATED_EPOCHS),
        (TRAINING, VALIDATION, ACCURACY),
        (),
        _steps(_EPOCHS),
        ("epochs",),
    ),
)
