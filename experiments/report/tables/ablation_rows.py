"""ScienceQA's ablations as lines of their tables: layers, initialisation, epochs (Tables 4 to 6).

They are runs of one task that differ in `num_layers`, `epochs` and method. One run, with 30 of 32
layers and for 30 epochs, is in all three tables. A smaller backbone has the same shares of its
depth, a smaller budget the same ratios of epochs; lines are called by the paper's numbers.
"""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from math import isclose

from experiments.backbones import language_models
from experiments.language.methods import TEXT
from experiments.report.rows import SECTION_OF_TASKS
from experiments.report.runs import Run
from experiments.report.tables import same_inputs
from experiments.scienceqa.plan import ABLATED_EPOCHS, ABLATED_LAYERS, ABLATION, DEPTH, scaled

METHOD = "zero-init"
LAYERS, EPOCHS = 30, 30  # the paper's own choice


def by_layers(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of Table 4 as lines "zero-init, as 10 of 32 layers", ..."""
    return [
        replace(run, line=layers_line(layers) if layers else f"{METHOD}, other layers")
        for run, method, layers, epochs in _placed(runs)
        if method == METHOD and epochs == EPOCHS
    ]


def by_initialisation(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of Table 5 as lines "zero-init" and "random-init"."""
    return [
        replace(run, line=method)
        for run, method, layers, epochs in _placed(runs)
        if (layers, epochs) == (LAYERS, EPOCHS)
    ]


def by_epochs(runs: Sequence[Run]) -> list[Run]:
    """Return the runs of Table 6 as lines "zero-init, as for 15 epochs", ..."""
    return [
        replace(run, line=epochs_line(epochs) if epochs else f"{METHOD}, other epochs")
        for run, method, layers, epochs in _placed(runs)
        if method == METHOD and layers == LAYERS
    ]


def layers_line(layers: int) -> str:
    """Return how the line of so many of the paper's layers is called."""
    return f"{METHOD}, as {layers} of {DEPTH} layers"


def epochs_line(epochs: int) -> str:
    """Return how the line of so many of the paper's epochs is called."""
    return f"{METHOD}, as for {epochs} epochs"


def lines(runs: Sequence[Run]) -> list[Run]:
    """Return each ablation run once for each table that it is in, and the runs of other tasks.

    So a claim can name two lines of a table. Other runs come again in pairs, as of `alike`.
    Ablations are scored on the validation questions, all else on the test questions; runs that are
    not are left out.
    """
    scored_on = {True: "val", False: "test"}
    counted = [
        run for run in runs if run.settings.get("evaluated_on") == scored_on[run.task == ABLATION]
    ]
    ablated = [run for run in counted if run.task == ABLATION]
    views = (by_layers, by_initialisation, by_epochs)
    others = [run for run in counted if run.task != ABLATION]
    return [*others, *same_inputs.pairs(others), *(run for view in views for run in view(ablated))]


def _placed(runs: Sequence[Run]) -> Iterator[tuple[Run, str, int | None, int | None]]:
    """Each run with its method, and its layers and epochs as the paper's; None: not one of them.

    Where the ablations are made without images, the text-only methods take their places.
    """
    sections: dict[tuple[object, ...], list[Run]] = {}
    for run in runs:
        sections.setdefault(tuple(getattr(run, name) for name in SECTION_OF_TASKS), []).append(run)
    for together in sections.values():
        images = any(run.method == METHOD for run in together)
        shown = [run for run in together if run.method.endswith(TEXT) != images]
        reference = _reference(shown)
        for run in shown:
            yield run, run.method.removesuffix(TEXT), _of_paper(run), _epochs(run, reference)


def _of_paper(run: Run) -> int | None:
    """The layers of the paper that are the same share of the depth."""
    backbone = language_models.BACKBONES.get(run.backbone)
    for layers in ABLATED_LAYERS:
        if backbone and _layers(run) == scaled(layers, backbone.layers):
            return layers
    return None


def _epochs(run: Run, reference: float | None) -> int | None:
    """The epochs of the paper that are the same ratio to its 30 as these to `reference`."""
    for epochs in ABLATED_EPOCHS:
        if reference and isclose(run.settings["epochs"], reference * epochs / EPOCHS):
            return epochs
    return None


def _reference(runs: Sequence[Run]) -> float | None:
    """The epochs that stand for the paper's 30: those of most lines, or the middle of three.

    None while too few runs are there to tell.
    """
    tried: dict[float, set[tuple[str, int]]] = {}
    for run in runs:
        tried.setdefault(run.settings["epochs"], set()).add((run.method, _layers(run)))
    counts = sorted((len(kinds) for kinds in tried.values()), reverse=True)
    if counts and counts[0] > 1 and counts.count(counts[0]) == 1:
        return max(tried, key=lambda epochs: len(tried[epochs]))
    return sorted(tried)[1] if len(tried) == len(ABLATED_EPOCHS) else None


def _layers(run: Run) -> int:
    return int(run.settings["num_layers"])
