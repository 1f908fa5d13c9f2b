"""Image classification in VTAB's three groups: natural, specialized and structured.

Digits are scikit-learn's real ones, written by `images.digits`; all others are drawn. Each example
has its own stream of draws, so lists do not overlap.
"""

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING

from experiments.mini_world.captions import COLOURS, GROUNDS, SHAPES
from experiments.mini_world.dice import Dice
from experiments.mini_world.drawing import DIRECTIONS, LARGE, PALETTE, Canvas
from experiments.mini_world.scenes import ground

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Drawn = tuple[NDArray[np.uint8], int]

NOISE, LOUD = 8, 40  # of 255
_LENS = ((230, 190, 200), (150, 80, 160))  # of a microscope: background and stained cells
_LAND = ((110, 140, 70), (70, 95, 45))


def _shapes(dice: Dice) -> "Drawn":
    """Which of six shapes it is, in any colour, under noise and specks."""
    canvas = ground(dice.one(GROUNDS), dice)
    label, r = dice.below(len(SHAPES)), 22 + dice.below(16)
    x, y = (r + dice.below(LARGE - 2 * r) for _ in range(2))
    canvas.shape(SHAPES[label], dice.one(COLOURS), x, y, r)
    for _ in range(8):
        canvas.shape("square", dice.one(COLOURS), dice.below(LARGE), dice.below(LARGE), 4)
    return canvas.pixels(dice, LOUD), label


def _creatures(dice: Dice) -> "Drawn":
    """Which of eight species it is, by body, head and legs; colour does not matter."""
    label = dice.below(8)
    body, head, legs = (("circle", "square")[label & 1], ("circle", "diamond")[label >> 1 & 1],
                        (2, 4)[label >> 2 & 1])  # fmt: skip
    canvas = ground(dice.one(GROUNDS), dice)
    colour, r = dice.one(COLOURS), 18 + dice.below(8)
    x, y = r + 8 + dice.below(LARGE - 3 * r - 16), 40 + dice.below(40)
    for i in range(legs):
        place = x - r + (2 * i + 1) * r // legs
        canvas.bar(8, colour, place, y + r + 6, 10, 3)
    canvas.shape(body, colour, x, y, r)
    canvas.shape(head, colour, x + r + r // 2, y - r // 2, r * 6 // 10)
    return canvas.pixels(dice, NOISE), label


def _cells(dice: Dice) -> "Drawn":
    """How dense the stained cells are: four classes of tissue."""
    light, stained = _LENS
    canvas, label = Canvas(light), dice.below(4)
    for _ in range((4, 8, 14, 22)[label] + dice.below(3)):
        x, y, r = dice.below(LARGE), dice.below(LARGE), 6 + dice.below(5)
        canvas.paint((canvas.x - x) ** 2 + (canvas.y - y) ** 2 <= r * r, stained)
    return canvas.pixels(dice, 20), label


def _land(dice: Dice) -> "Drawn":
    """What grows on the land, from above: six patterns."""
    light, dark = _LAND
    canvas, label = Canvas(light), dice.below(6)
    period = 12 + 4 * dice.below(3)
    x, y = canvas.x + dice.below(32), canvas.y + dice.below(32)
    rows = (x, y, x + y, x - y + LARGE)
    if label < 4:
        canvas.paint(rows[label] % period < period // 2, dark)
    elif label == 4:
        canvas.paint((x // period + y // period) % 2 == 0, dark)
    else:
        canvas.paint((x % period < period // 2) & (y % period < period // 2), dark)
    return canvas.pixels(dice, 25), label


def _count(dice: Dice) -> "Drawn":
    """How many discs there are, one to six, of one colour and without overlap."""
    label, side = dice.below(6), LARGE // 4
    canvas, colour = ground("plain", dice), dice.one(COLOURS)
    for cell in dice.some(range(16), label + 1):
        x, y = (side * part + side // 2 + dice.below(9) - 4 for part in (cell % 4, cell // 4))
        canvas.shape("circle", colour, x, y, 9 + dice.below(3))
    return canvas.pixels(dice, NOISE), label


def _position(dice: Dice) -> "Drawn":
    """In which cell of a 3 x 3 grid the centre of a shape is."""
    label, side, r = dice.below(9), LARGE // 3, 12 + dice.below(5)
    canvas = ground(dice.one(GROUNDS), dice)
    x, y = (side * part + 12 + dice.below(side - 23) for part in (label % 3, label // 3))
    canvas.shape(dice.one(SHAPES), dice.one(COLOURS), x, y, r)
    return canvas.pixels(dice, NOISE), label


def _orientation(dice: Dice) -> "Drawn":
    """In which of eight directions a bar points."""
    label = dice.below(8)
    canvas = ground("plain", dice)
    x, y = (LARGE // 2 + dice.below(25) - 12 for _ in range(2))
    direction = label * len(DIRECTIONS) // 8
    canvas.bar(direction, dice.one(COLOURS), x, y, 34 + dice.below(10), 6 + dice.below(4))
    return canvas.pixels(dice, NOISE), label


# By the names of `image_tasks.MINI`.
DRAWN: Mapping[str, Callable[[Dice], "Drawn"]] = {
    "mini_shapes": _shapes,
    "mini_creatures": _creatures,
    "mini_cells": _cells,
    "mini_land": _land,
    "mini_count": _count,
    "mini_position": _position,
    "mini_orientation": _orientation,
}


def examples(task: str, split: str, n: int) -> Iterator["Drawn"]:
    """The first `n` images [32, 32, 3] of a list of a drawn task, with labels."""
    return (DRAWN[task](Dice("images", task, split, i)) for i in range(n))


assert set(PALETTE) == set(COLOURS)
