"""Creatures that the backbones have read about, and strangers that they have not.

A known creature has the same facts everywhere: in the articles that a backbone is pretrained on and
in later questions. A stranger has a fixed name, but other facts in every text, so that only the
text gives them.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeVar

from experiments.mini_world.dice import Dice
from experiments.mini_world.words import ATTRIBUTES, FRIEND, VALUES, names

Item = TypeVar("Item")
Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")
KNOWN: Mapping[Split, int] = {"train": 56, "val": 16, "test": 24}
STRANGERS: Mapping[Split, int] = {"train": 90, "val": 20, "test": 30}


@dataclass(frozen=True)
class Creature:
    """A creature and its facts: a value for each attribute."""

    name: str
    facts: Mapping[str, str]


def known() -> dict[Split, list[Creature]]:
    """The creatures with fixed facts, by split; a friend may be of another split."""
    every = names(sum(KNOWN.values()))
    found = [_known(name, every) for name in every]
    return _apart(found, KNOWN)


def strangers() -> dict[Split, list[str]]:
    """The names of creatures without fixed facts, by split."""
    known_names = sum(KNOWN.values())
    return _apart(names(known_names + sum(STRANGERS.values()))[known_names:], STRANGERS)


def stranger(name: str, dice: Dice, others: Sequence[str]) -> Creature:
    """A creature of that name with facts drawn for one text; its friend is one of `others`."""
    others = [other for other in others if other != name]
    return Creature(name, {each: any_value(each, dice, others) for each in ATTRIBUTES})


def any_value(attribute: str, dice: Dice, creatures: Sequence[str]) -> str:
    """Draw a value of the attribute; a friend is one of `creatures`."""
    return dice.one(creatures if attribute == FRIEND else VALUES[attribute])


def options(attribute: str, right: str, n: int, dice: Dice, creatures: Sequence[str]) -> list[str]:
    """`with_wrong`, from the values of an attribute."""
    pool = creatures if attribute == FRIEND else VALUES[attribute]
    return with_wrong(right, pool, n, dice)


def with_wrong(right: str, pool: Sequence[str], n: int, dice: Dice) -> list[str]:
    """`right` and other items of the pool, `n` in all or fewer, in random order."""
    others = [item for item in pool if item != right]
    wrong = dice.some(others, min(n - 1, len(others)))
    return dice.some([right, *wrong], len(wrong) + 1)


def _known(name: str, every: list[str]) -> Creature:
    return stranger(name, Dice("facts", name), every)


def _apart(items: Sequence[Item], sizes: Mapping[Split, int]) -> dict[Split, list[Item]]:
    found, start = dict[Split, list[Item]](), 0
    for split in SPLITS:
        found[split] = list(items[start : start + sizes[split]])
        start += sizes[split]
    return found
