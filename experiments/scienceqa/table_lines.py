"""Runs of ScienceQA as lines of tables whose lines are not methods.

Tables 4 to 6 are runs of the task `ablation` that differ in `num_layers`, `epochs` and method. One
run, with 30 of 32 layers and for 30 epochs, is in all three. A smaller backbone has the same shares
of its depth, a smaller budget the same ratios of epochs; lines are named after the paper's numbers.
"""

from collections.abc import Callable, Iterator, Sequence
from math import isclose
from typing import Any

from experiments.backbones import language_models
from experiments.harness.report_info import R
from experiments.language.depth import DEPTH, scaled
from experiments.language.methods import TEXT
from experiments.scienceqa.plan import ABLATED_EPOCHS, ABLATED_LAYERS, ABLATION, LONGER

METHOD, RIVALS = "zero-init", ("random-init", "lora")
LAYERS, EPOCHS = 30, 30  # the paper's own choice
Placed = tuple[R, str, int | None, int | None]


def by_layers(runs: Sequence[R]) -> Iterator[tuple[R, str]]:
    """Yield the runs of Table 4 with lines "zero-init, as 10 of 32 layers", ..."""
    for run, method, layers, epochs in _placed(runs):
        if method == METHOD and epochs == EPOCHS:
            of = f"as {layers} of {DEPTH} layers" if layers else "other layers"
            yield run, f"{METHOD}, {of}"


def by_initialisation(runs: Sequence[R]) -> Iterator[tuple[R, str]]:
    """Yield the runs of Table 5 with lines "zero-init" and "random-init"."""
    for run, method, layers, epochs in _placed(runs):
        if (layers, epochs) == (LAYERS, EPOCHS):
            yield run, method


def by_epochs(runs: Sequence[R]) -> Iterator[tuple[R, str]]:
    """Yield the runs of Table 6 with lines "zero-init, as for 15 epochs", ..."""
    for run, method, layers, epochs in _placed(runs):
        if method == METHOD and layers == LAYERS:
            yield run, f"{METHOD}, {f'as for {epochs} epochs' if epochs else 'other epochs'}"


def with_same_inputs(runs: Sequence[R]) -> Iterator[tuple[R, str]]:
    """Yield pairs of methods that see the same, as "zero-init beside lora" and the reverse.

    Both see images, or neither where the training data have none: these have only text-only
    methods. Ablations are not paired.
    """
    for together in _sections([run for run in runs if run.task != ABLATION], lambda r: r.task):
        for rival in RIVALS:
            for suffix in ("", TEXT):
                ours, other = (
                    [run for run in together if run.method == name + suffix]
                    for name in (METHOD, rival)
                )
                if ours and other:
                    yield from ((run, f"{METHOD} beside {rival}") for run in ours)
                    yield from ((run, f"{rival} beside {METHOD}") for run in other)
                    break


def _placed(runs: Sequence[R]) -> Iterator[Placed[R]]:
    """Yield each ablation with its method, and the paper's layers and epochs that it stands for.

    None: it stands for none of them. Ablations without images have the text-only methods.
    """
    for together in _sections([run for run in runs if run.task == ABLATION]):
        images = any(run.method == METHOD for run in together)
        shown = [run for run in together if run.method.endswith(TEXT) != images]
        reference = _reference(shown)
        for run in shown:
            yield run, run.method.removesuffix(TEXT), _paper_layers(run), _epochs(run, reference)


def _sections(runs: Sequence[R], also: Callable[[R], Any] = lambda run: None) -> list[list[R]]:
    """The runs that may stand in one table together."""
    found: dict[Any, list[R]] = {}
    for run in runs:
        key = (run.profile, run.backbone, run.data, run.version, also(run))
        found.setdefault(key, []).append(run)
    return list(found.values())


def _paper_layers(run: R) -> int | None:
    """The layers of the paper that are the same share of the depth."""
    depth = depth_of(run)
    for layers in ABLATED_LAYERS:
        if depth and _layers(run) == scaled(layers, depth):
            return layers
    return None


def depth_of(run: Any) -> int | None:
    """The number of layers of the run's backbone, None if that is unknown."""
    known = language_models.BACKBONES.get(run.backbone)
    found: int | None = known.layers if known else run.settings.get("backbone_layers")
    return found


def _epochs(run: R, reference: float | None) -> int | None:
    """What the run's epochs stand for if `reference` stands for the paper's 30; None: for none."""
    return _stands_for(run.settings["epochs"], reference, (*ABLATED_EPOCHS, LONGER))


def _stands_for(epochs: float, reference: float | None, known: Sequence[int]) -> int | None:
    for one in known:
        if reference and isclose(epochs, reference * one / EPOCHS):
            return one
    return None


def _reference(runs: Sequence[R]) -> float | None:
    """The epochs that stand for the paper's 30: those of most lines, or the only ones that fit.

    None while too few runs are there to tell.
    """
    tried: dict[float, set[tuple[str, int]]] = {}
    for run in runs:
        tried.setdefault(run.settings["epochs"], set()).add((run.method, _layers(run)))
    counts = sorted((len(kinds) for kinds in tried.values()), reverse=True)
    if counts and counts[0] > 1 and counts.count(counts[0]) == 1:
        return max(tried, key=lambda epochs: len(tried[epochs]))
    for known in (ABLATED_EPOCHS, (*ABLATED_EPOCHS, LONGER)):
        fitting = {
            round(epochs * EPOCHS / one, 6)
            for epochs in tried
            for one in known
            if all(_stands_for(each, epochs * EPOCHS / one, known) for each in tried)
        }
        if len(fitting) == 1:
            return fitting.pop()
    return None


def _layers(run: R) -> int:
    return int(run.settings["num_layers"])
