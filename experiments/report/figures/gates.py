"""The gates of a finished zero-init run, by layer and head."""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from experiments.harness.stored import ADAPTER
from experiments.report.figures import style
from experiments.report.figures.shared import (
    SCORES,
    Drawn,
    final_sections,
    stem,
    subtitle,
    tasks,
    title_of,
)
from experiments.report.rows import Section
from experiments.report.runs import Runs

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    from matplotlib.figure import Figure

METHOD = "zero-init"


def draw(runs: Runs) -> Iterator[Drawn]:
    """Yield a heat map for each section and task: the first seed that has its adapter here."""
    for experiment in SCORES:
        for section in final_sections(runs, experiment):
            for task in tasks(section):
                for path, seed in _adapters(runs, section, task):
                    layers, gates = _gates(path)
                    title = f"{subtitle(section)}\n{title_of(task)}, seed {seed}"
                    name = stem("gates", experiment, section, task)
                    yield Drawn(name, _figure(title, layers, gates))
                    break


def _adapters(runs: Runs, section: Section, task: str) -> "Iterator[tuple[Path, int]]":
    for row in section.rows:
        if row.method == METHOD:
            for run in row.of((task,)).done:
                path = runs.one(run).path / ADAPTER
                if path.exists():
                    yield path, run.seed


def _gates(path: "Path") -> "tuple[list[int], np.ndarray]":
    """Layer numbers from the bottom, and the gates as the layers use them, [layers, heads]."""
    import numpy as np
    import torch

    from zia_core.adapters import unpacked

    about, tensors = unpacked(path)
    found = {}
    for name, tensor in tensors.items():
        layer = re.search(r"\.(\d+)\..*zero_init\.gate$", f".{name}")
        if layer:
            gate = tensor.float().flatten()
            tanh = about.get("config", {}).get("gate_activation") == "tanh"
            found[int(layer[1])] = (torch.tanh(gate) if tanh else gate).numpy()
    layers = sorted(found)
    return layers, np.stack([found[layer] for layer in layers])


def _figure(title: str, layers: list[int], gates: "np.ndarray") -> "Figure":
    figure, panel = style.new(height=0.9 + min(3.2, 0.11 * len(layers) + 0.5))
    largest = max(abs(float(gates.min())), abs(float(gates.max())), 1e-6)
    image = panel.imshow(
        gates, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto", origin="lower",
        interpolation="nearest",
    )  # fmt: skip
    heads = gates.shape[1]
    panel.set_xticks(range(0, heads, max(1, heads // 8)))
    places = range(0, len(layers), max(1, len(layers) // 8))
    panel.set_yticks(places, [layers[place] for place in places])
    panel.set_xlabel("head")
    panel.set_ylabel("layer")
    panel.set_title(title, fontsize=7.5)
    for spine in panel.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=panel, label="gate", shrink=0.9)
    return figure
