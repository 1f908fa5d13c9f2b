"""A heat map of numbers by layer and head, and how they are read."""

from collections.abc import Sequence
from math import isfinite
from typing import TYPE_CHECKING, Any

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

TICKS = 8  # at most so many on an axis


def by_layer(found: Any, where: object) -> "tuple[list[int], np.ndarray]":
    """Return layer numbers from the bottom and the numbers [layers, heads] of {layer: [head]}.

    ZiaError names the file `where` if it holds anything else.
    """
    import numpy as np

    try:
        rows = {int(layer): [float(head) for head in heads] for layer, heads in found.items()}
    except (AttributeError, TypeError, ValueError):  # no object, or not of lists of numbers
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
    """Draw values [down, across] with the first row at the bottom, and their scale beside them."""
    image = panel.imshow(values, aspect="auto", origin="lower", interpolation="nearest", **options)
    for spine in panel.spines.values():
        spine.set_visible(False)
    figure.colorbar(image, ax=panel, label=label, shrink=0.9)


def ticks(panel: "Axes", down: Sequence[object], across: Sequence[object]) -> None:
    """Name rows and columns of a heat map, as many as can be read."""
    for names, set_ticks in ((down, panel.set_yticks), (across, panel.set_xticks)):
        places = range(0, len(names), max(1, -(-len(names) // TICKS)))
        set_ticks(places, [str(names[place]) for place in places])


def height(layers: Sequence[int]) -> float:
    """Return the height in inches of a figure with so many layers."""
    return 0.9 + min(3.2, 0.11 * len(layers) + 0.5)
