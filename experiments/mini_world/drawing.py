"""Draw coloured shapes in integer arithmetic, so that every machine draws the same pixels.

A picture is drawn at four times its size and averaged, for smooth edges. Coordinates are in pixels
of the large picture.
"""

from collections.abc import Callable
from functools import cache
from typing import TYPE_CHECKING, Any

from experiments.mini_world.dice import Dice

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Mask = NDArray[np.bool_]
    Grid = NDArray[np.int32]

SIDE, SCALE = 32, 4
LARGE = SIDE * SCALE
PALETTE: dict[str, tuple[int, int, int]] = {
    "red": (215, 35, 35),
    "green": (40, 160, 50),
    "blue": (40, 70, 215),
    "yellow": (235, 215, 50),
    "purple": (140, 50, 170),
    "orange": (240, 140, 30),
    "white": (245, 245, 245),
    "black": (20, 20, 20),
}
# (1000 cos, 1000 sin) of 16 directions of half a turn: 0, 11.25, ... 168.75 degrees.
DIRECTIONS = (
    (1000, 0), (981, 195), (924, 383), (831, 556), (707, 707), (556, 831), (383, 924), (195, 981),
    (0, 1000), (-195, 981), (-383, 924), (-556, 831), (-707, 707), (-831, 556), (-924, 383),
    (-981, 195),
)  # fmt: skip


@cache
def _grid() -> tuple["Grid", "Grid"]:
    """The columns [1, LARGE] and rows [LARGE, 1]."""
    import numpy as np

    numbers = np.arange(LARGE, dtype=np.int32)
    return numbers[None, :], numbers[:, None]


class Canvas:
    """A picture being drawn."""

    def __init__(self, background: tuple[int, int, int]) -> None:
        import numpy as np

        self.large = np.empty((LARGE, LARGE, 3), dtype=np.uint8)
        self.large[:] = background
        self.x, self.y = _grid()

    def paint(self, mask: "Mask", colour: tuple[int, int, int]) -> None:
        """Set the pixels of the mask to a colour."""
        import numpy as np

        self.large[np.broadcast_to(mask, (LARGE, LARGE))] = colour

    def shape(self, name: str, colour: str, cx: int, cy: int, r: int) -> None:
        """Draw a shape of `SHAPES` centred at (cx, cy), with radius `r`."""
        self.paint(_MASKS[name](self.x - cx, self.y - cy, r), PALETTE[colour])

    def bar(self, direction: int, colour: str, cx: int, cy: int, length: int, width: int) -> None:
        """Draw a bar along one of the `DIRECTIONS`; `length` and `width` are half its size."""
        cos, sin = DIRECTIONS[direction]
        along = (self.x - cx) * cos + (self.y - cy) * sin
        across = (self.y - cy) * cos - (self.x - cx) * sin
        inside = (abs(along) <= 1000 * length) & (abs(across) <= 1000 * width)
        self.paint(inside, PALETTE[colour])

    def pixels(self, dice: Dice, noise: int) -> "NDArray[np.uint8]":
        """The picture [32, 32, 3], with random brightness and pixel noise of at most `noise`."""
        import numpy as np

        parts = self.large.reshape(SIDE, SCALE, SIDE, SCALE, 3)
        small = parts.sum(axis=(1, 3), dtype=np.int32) // SCALE**2 + (
            dice.below(2 * noise + 1) - noise
        )
        return np.clip(small + grain(dice, noise), 0, 255).astype(np.uint8)


def grain(dice: Dice, size: int) -> "NDArray[np.int64]":
    """Integers [32, 32, 3] from -size to size, from a 31-bit congruential generator."""
    import numpy as np

    n = SIDE * SIDE * 3
    # By doubling: x_{2k} follows from x_k with multiplier a^k.
    values = np.array([dice.below(2**31)], dtype=np.uint64)
    a, c, modulus = 1103515245, 12345, np.uint64(2**31 - 1)
    while len(values) < n:
        values = np.concatenate([values, (values * np.uint64(a) + np.uint64(c)) & modulus])
        a, c = a * a % 2**31, (a * c + c) % 2**31
    drawn = (values[:n] >> np.uint64(15)).astype(np.int64) % (2 * size + 1)
    return (drawn - size).reshape(SIDE, SIDE, 3)


def _circle(x: "Grid", y: "Grid", r: int) -> Any:
    return x * x + y * y <= r * r


def _square(x: "Grid", y: "Grid", r: int) -> Any:
    side = r * 9 // 10
    return (abs(x) <= side) & (abs(y) <= side)


def _triangle(x: "Grid", y: "Grid", r: int) -> Any:
    return (y <= r * 8 // 10) & (2 * abs(x) <= y + r)


def _cross(x: "Grid", y: "Grid", r: int) -> Any:
    arm = r // 3
    return ((abs(x) <= arm) & (abs(y) <= r)) | ((abs(y) <= arm) & (abs(x) <= r))


def _ring(x: "Grid", y: "Grid", r: int) -> Any:
    square = x * x + y * y
    return (square <= r * r) & (square * 100 >= r * r * 30)


def _diamond(x: "Grid", y: "Grid", r: int) -> Any:
    return abs(x) * 3 + abs(y) * 2 <= 2 * r


_MASKS: dict[str, Callable[["Grid", "Grid", int], Any]] = {
    "circle": _circle,
    "square": _square,
    "triangle": _triangle,
    "cross": _cross,
    "ring": _ring,
    "diamond": _diamond,
}
