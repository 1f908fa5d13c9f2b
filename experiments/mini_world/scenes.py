"""Draw the scenes that captions and questions are about."""

from typing import TYPE_CHECKING

from experiments.mini_world.captions import Scene
from experiments.mini_world.dice import Dice
from experiments.mini_world.drawing import LARGE, Canvas

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

NOISE = 8  # of 255
# Possible centres of things, in quarters of a side, by number of things and relation.
_PLACES = {
    "left of": ((1, 2), (3, 2)),
    "above": ((2, 1), (2, 3)),
}
_CORNERS = ((1, 1), (3, 1), (1, 3), (3, 3))


def draw_picture(scene: Scene, dice: Dice) -> "NDArray[np.uint8]":
    """A picture [32, 32, 3] of the scene, with exact places drawn from `dice`."""
    canvas = ground(scene.ground, dice)
    for thing, (x, y, r) in zip(scene.things, _places(scene, dice), strict=True):
        canvas.shape(thing.shape, thing.colour, x, y, r)
    return canvas.pixels(dice, NOISE)


def ground(kind: str, dice: Dice) -> Canvas:
    """A grey canvas, plain, striped or dotted."""
    light = 120 + dice.below(70)
    canvas = Canvas((light, light, light))
    dark = (light - 45,) * 3
    period, shift = 16 + 4 * dice.below(3), dice.below(16)
    x, y = canvas.x + shift, canvas.y + shift
    if kind == "striped":
        canvas.paint(y % period < period // 3, dark)
    elif kind == "dotted":
        canvas.paint((x % period < period // 2) & (y % period < period // 2), dark)
    return canvas


def _places(scene: Scene, dice: Dice) -> list[tuple[int, int, int]]:
    """Centre and size of each thing, without overlap and within the picture."""
    n, quarter = len(scene.things), LARGE // 4
    if n == 1:
        r = 18 + dice.below(20)
        return [(_within(r, dice), _within(r, dice), r)]
    middles = _PLACES[scene.relation] if n == 2 else dice.some(_CORNERS, n)
    return [
        (_near(x * quarter, dice), _near(y * quarter, dice), 18 + dice.below(6)) for x, y in middles
    ]


def _within(r: int, dice: Dice) -> int:
    return r + dice.below(LARGE - 2 * r)


def _near(middle: int, dice: Dice) -> int:
    return middle - 7 + dice.below(15)
