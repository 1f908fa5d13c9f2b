"""Read and draw numbers by layer and head."""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = 8  # at most, per axis


def by_layer(found: Any, where: object) -> "tuple[list[int], np.ndarray]":
    """Return the layers of {layer: [heads]}, in order, and its values [layers, heads].

    ZiaError names the file `where` if it holds anything else.
    """
    import numpy as np

    try:
        rows = {int(layer): [float(head) for head in heads] for layer, heads in found.items()}
    except (AttributeError, TypeError, ValueError):  # not an object of lists of numbers
        rows = {}
    layers = sorted(rows)
    values = [rows[layer] for layer in layers]
    same = len({len(row) for row in values}) == 1 and len(values[0]) > 0
    if not same or not all(isfinite(head) for row in values for head in row):
        raise ZiaError(
            f"{where}: what is kept by layer and head must be numbers, as many for every layer, "
            'as in {"2": [0.1, 0.2], "3": [0.3, 0.4]}: restore the file, or delete the run'
        )
    return layers, np.array(values)


def heat_map(
    figure: "Figure", panel: "Axes", values: "np.ndarray", label: str, **options: Any
) -> None:
    """Draw values [down, across], the first row at the bottom, with a colour bar."""
    image = panel.imshow(values, aspect="auto", origin="lower", interpolation="nearest", **options)
    for spine in panel.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=panel, label=label, shrink=0.9)


def ticks(panel: "Axes", down: Sequence[object], across: Sequence[object]) -> None:
    """Label rows and columns, as many as fit."""
    for names, set_ticks in ((down, panel.set_yticks), (across, panel.set_xticks)):
        places = range(0, len(names), max(1, -(-len(names) // TICKS)))
        set_ticks(places, [str(names[place]) for place in places])


def height(layers: Sequence[int]) -> float:
    """Return the height of a figure, in inches."""
    return 0.9 + min(3.2, 0.11 * len(layers) + 0.5)
