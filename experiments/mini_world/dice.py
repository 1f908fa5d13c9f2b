"""Random draws that are the same on every machine and with every version of Python and NumPy.

They use only `random.Random.random()`, whose sequence Python guarantees for a seed. There is no
such guarantee for `choice` or `shuffle`, or for NumPy's distributions.
"""

import random
from collections.abc import Sequence
from typing import TypeVar

Item = TypeVar("Item")


class Dice:
    """A named stream of draws: `Dice("scenes", 7)` always gives the same."""

    def __init__(self, *name: str | int) -> None:
        self._random = random.Random("/".join(map(str, name)))

    def below(self, n: int) -> int:
        """A number from 0 to n - 1."""
        return int(self._random.random() * n)

    def chance(self, probability: float) -> bool:
        """True with this probability."""
        return self._random.random() < probability

    def one(self, items: Sequence[Item]) -> Item:
        """One of the items."""
        return items[self.below(len(items))]

    def some(self, items: Sequence[Item], n: int) -> list[Item]:
        """`n` different ones of the items, in random order."""
        rest = list(items)
        for i in range(n):
            j = i + self.below(len(rest) - i)
            rest[i], rest[j] = rest[j], rest[i]
        return rest[:n]

    def weighted(self, weights: Sequence[float]) -> int:
        """An index, drawn in proportion to the weights."""
        point = self._random.random() * sum(weights)
        for i, weight in enumerate(weights):
            point -= weight
            if point < 0:
                return i
        return len(weights) - 1
