"""Instructions in Alpaca's schema, about facts that the language backbone has read.

Their forms are in none of its documents, so training teaches to follow them; facts about the
creatures of `val` and `test` can only come from pretraining. An instruction is about creatures of
one split.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple

from experiments.mini_world.creatures import SPLITS, Creature, Split, any_value, known
from experiments.mini_world.dice import Dice
from experiments.mini_world.phrases import ANSWERS
from experiments.mini_world.words import ATTRIBUTES

SIZES: Mapping[Split, int] = {"train": 1000, "val": 100, "test": 200}


class Instruction(NamedTuple):
    """A record of Alpaca's file, and the split of its creatures."""

    instruction: str
    input: str
    output: str
    split: Split


def instructions() -> list[Instruction]:
    """All instructions; no two have the same instruction and input."""
    creatures, dice = known(), Dice("instructions")
    found: dict[tuple[str, str], Instruction] = {}
    for split in SPLITS:
        size = len(found) + SIZES[split]
        while len(found) < size:
            instruction, given, output = dice.one(_KINDS)(creatures[split], dice)
            found.setdefault((instruction, given), Instruction(instruction, given, output, split))
    return list(found.values())


_Text = tuple[str, str, str]


def _listed(creatures: Sequence[Creature], dice: Dice) -> _Text:
    creature, chosen = dice.one(creatures), dice.some(ATTRIBUTES, 2)
    answer = "; ".join(f"{attribute}: {creature.facts[attribute]}" for attribute in chosen)
    return f"List {chosen[0]} and {chosen[1]} of {creature.name}.", "", f"Answer: {answer}."


def _named(creatures: Sequence[Creature], dice: Dice) -> _Text:
    creature, attribute = dice.one(creatures), dice.one(ATTRIBUTES)
    answer = f"The {attribute} of {creature.name}: {creature.facts[attribute]}."
    return f"Name the {attribute} of {creature.name}.", "", answer


def _filled(creatures: Sequence[Creature], dice: Dice) -> _Text:
    creature, attribute = dice.one(creatures), dice.one(ATTRIBUTES)
    gap = f"About {creature.name}: {ANSWERS[attribute].format(x=creature.name, v='###')}"
    answer = f"The word that is missing is {creature.facts[attribute]}."
    return "Fill in the word that is missing.", gap, answer


def _judged(creatures: Sequence[Creature], dice: Dice) -> _Text:
    creature, attribute = dice.one(creatures), dice.one(ATTRIBUTES)
    right = creature.facts[attribute]
    said = right
    if dice.chance(0.5):
        names = [other.name for other in creatures if other.name != right]
        while said == right:
            said = any_value(attribute, dice, names)
    answer = "True" if said == right else "False"
    form = ANSWERS[attribute]
    given, truth = (form.format(x=creature.name, v=value) for value in (said, right))
    asked = "Is that true or false? Write down what is true."
    return asked, f"About {creature.name}: {given}", f"{answer}: {truth}"


def _described(creatures: Sequence[Creature], dice: Dice) -> _Text:
    creature, chosen = dice.one(creatures), dice.some(ATTRIBUTES, 3)
    answer = ", ".join(creature.facts[attribute] for attribute in chosen)
    asked = ", ".join(chosen)
    return f"Describe {creature.name} in three words: {asked}.", "", f"Three words: {answer}."


def _compared(creatures: Sequence[Creature], dice: Dice) -> _Text:
    pair, attribute = dice.some(creatures, 2), dice.one(ATTRIBUTES)
    answer = " and ".join(f"{each.facts[attribute]} for {each.name}" for each in pair)
    names = " and ".join(each.name for each in pair)
    return f"Compare the {attribute} of two.", f"About {names}.", f"It is {answer}."


_KINDS: tuple[Callable[[Sequence[Creature], Dice], _Text], ...] = (
    _listed, _named, _filled, _judged, _described, _compared,
)  # fmt: skip
