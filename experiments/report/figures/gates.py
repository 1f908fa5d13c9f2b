"""Draw the gates of a zero-init run by layer and head, and over its training."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from experiments.harness.stored import ADAPTER, METRICS, StoredRun, with_adapter
from experiments.report.experiments import all_scored_sections, tasks_of
from experiments.report.figures import style
from experiments.report.figures.drawn import (
    Drawn,
    stem,
    subtitle,
    title_of,
)
from experiments.report.figures.heat_map import by_layer, heat_map, height, ticks
from experiments.report.rows import Section
from experiments.report.run import Run
from experiments.report.runs import Runs
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.figure import Figure

METHODS = ("zero-init", "zero-init-text")  # the first that has runs
OVER_TRAINING = 3  # evaluations that a panel over training needs


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a heat map for each section and task, of the first seed with gates."""
    for experiment, info, section in all_scored_sections(runs):
        for task in tasks_of(section, info):
            for run in finished(section, task):
                try:
                    recorded = _recorded(runs.one(run))
                except ZiaError as error:
                    runs.give_up(runs.one(run).name, error)
                    continue
                if recorded:
                    title = f"{subtitle(section)}\n{title_of(task, info)}, seed {run.seed}"
                    name = stem("gates", experiment, section, task)
                    yield Drawn(name, _figure(title, recorded))
                    break


def finished(section: Section, task: str) -> Iterator[Run]:
    """Yield the finished zero-init runs of a task, those that see images first."""
    for method in METHODS:
        for row in section.rows:
            if row.method == method:
                yield from row.of((task,)).done


def _recorded(run: StoredRun) -> "list[tuple[int | None, list[int], np.ndarray]]":
    """Step, layers and gates [layers, heads] at each evaluation, or of the adapter (no step)."""
    found = [
        (int(record["step"]), *by_layer(record["gates"], run.path / METRICS))
        for record in run.metrics()
        if "gates" in record
    ]
    if len({gates.shape for _, _, gates in found}) > 1:
        raise ZiaError(f"{run.path / METRICS}: the gates are not as many in every evaluation")
    if found or not (run.path / ADAPTER).exists():
        return list(found)
    return [(None, *_of_adapter(run))]


def _of_adapter(run: StoredRun) -> "tuple[list[int], np.ndarray]":
    """The activated gates a(g) of runs that did not record them."""
    import re

    import torch

    from zia_core.adapters import unpacked

    with_adapter(run.folder)  # raises if it is not the one that was trained
    about, tensors = unpacked(run.folder / ADAPTER)
    tanh = about.get("config", {}).get("gate_activation") == "tanh"
    found = {}
    for name, tensor in tensors.items():
        layer = re.search(r"\.(\d+)\..*zero_init\.gate$", f".{name}")
        if layer:
            gate = tensor.float().flatten()
            found[layer[1]] = (torch.tanh(gate) if tanh else gate).tolist()
    return by_layer(found, run.path / ADAPTER)


def _figure(title: str, recorded: "list[tuple[int | None, list[int], np.ndarray]]") -> "Figure":
    import numpy as np

    _, layers, gates = recorded[-1]
    several = len(recorded) >= OVER_TRAINING
    figure, panels = style.new(height=height(layers) * (2 if several else 1), nrows=1 + several)
    first = np.atleast_1d(panels)[0]
    largest = max(abs(float(gates.min())), abs(float(gates.max())), 1e-6)
    both_ways: dict[str, Any] = {"cmap": "PuOr", "vmin": -largest, "vmax": largest}
    heat_map(figure, first, gates, "gate", **both_ways)
    ticks(first, layers, range(gates.shape[1]))
    first.set_xlabel("head")
    first.set_ylabel("layer")
    if several:
        second = panels[1]
        sizes = np.stack([np.abs(each).mean(axis=1) for _, _, each in recorded], axis=1)
        heat_map(figure, second, sizes, "mean size of the gates", cmap="viridis", vmin=0)
        ticks(second, layers, [step for step, _, _ in recorded])
        second.set_xlabel("step")
        second.set_ylabel("layer")
    figure.suptitle(title, fontsize=7.5)
    return figure
