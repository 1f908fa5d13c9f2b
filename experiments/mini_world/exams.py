"""Multiple-choice questions in ScienceQA's schema: about texts, about pictures, or without context.

A question about a text is about a stranger, whose facts are only in the hint; one about a picture
can be answered from that picture alone; one without context asks what the language backbone has
read. Splits have no creatures, strangers or words in common.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from experiments.mini_world.captions import COLOURS, SHAPES, draw_scene
from experiments.mini_world.creatures import (
    SPLITS,
    Creature,
    Split,
    known,
    options,
    stranger,
    strangers,
    with_wrong,
)
from experiments.mini_world.dice import Dice
from experiments.mini_world.documents import picture_question, question, statement
from experiments.mini_world.lexicon import KINDS, kind_question, opposite_question
from experiments.mini_world.phrases import ANSWERS
from experiments.mini_world.scenes import draw_picture
from experiments.mini_world.words import ATTRIBUTES, FRIEND, OPPOSITES

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Context = Literal["text", "image", "none"]
CONTEXTS: tuple[Context, ...] = ("text", "image", "none")
SIZES: Mapping[Split, int] = {"train": 900, "val": 150, "test": 300}  # a third of each context
MOST_OPTIONS = 4
GRADES = 12
# Shares of the words by split; the test set has the rest.
_WORD_SHARES: Mapping[Split, tuple[float, float]] = {
    "train": (0.0, 0.6),
    "val": (0.6, 0.8),
    "test": (0.8, 1.0),
}


@dataclass(frozen=True)
class Problem:
    """A record of problems.json, and its picture [32, 32, 3] if it has one."""

    record: Mapping[str, Any]
    picture: "NDArray[np.uint8] | None" = None


def problems() -> dict[str, Problem]:
    """All problems by pid, grouped by split."""
    found: dict[str, Problem] = {}
    for split in SPLITS:
        maker = _Exam(split)
        for i in range(SIZES[split]):
            found[str(len(found) + 1)] = maker.problem(CONTEXTS[i % 3], i)
    return found


class _Exam:
    """Makes the questions of a split."""

    def __init__(self, split: Split) -> None:
        self._split = split
        self._creatures, self._strangers = known()[split], strangers()[split]
        self._names = [creature.name for part in known().values() for creature in part]
        self._opposites = _share(OPPOSITES, split)
        self._kinds = {kind: _share(words, split) for kind, words in KINDS.items()}

    def problem(self, context: Context, i: int) -> Problem:
        dice = Dice("exam", self._split, i)
        if context == "text":
            return self._about_text(dice)
        if context == "image":
            return self._about_picture(dice)
        return self._about_words(dice) if dice.chance(0.25) else self._about_facts(dice)

    def _about_text(self, dice: Dice) -> Problem:
        creature = stranger(dice.one(self._strangers), dice, self._names)
        told = dice.some(ATTRIBUTES, 3)
        hint = " ".join(statement(creature, attribute, dice) for attribute in told)
        return self._about_creature(creature, dice.one(told), hint, dice)

    def _about_facts(self, dice: Dice) -> Problem:
        return self._about_creature(dice.one(self._creatures), dice.one(ATTRIBUTES), "", dice)

    def _about_creature(self, creature: Creature, attribute: str, hint: str, dice: Dice) -> Problem:
        right = creature.facts[attribute]
        chosen = options(attribute, right, 2 + dice.below(MOST_OPTIONS - 1), dice, self._names)
        social = attribute == FRIEND
        record = self._record(
            question(creature, attribute, dice),
            chosen,
            right,
            dice,
            hint=hint,
            subject="social science" if social else "natural science",
            topic="friends" if social else "creatures",
            skill=attribute,
            lecture=f"Every creature has one {attribute}.",
            solution=ANSWERS[attribute].format(x=creature.name, v=right),
        )
        return Problem(record)

    def _about_picture(self, dice: Dice) -> Problem:
        scene = draw_scene(dice)
        thing, by_colour = dice.one(scene.things), dice.chance(0.5)
        right, pool = (thing.colour, COLOURS) if by_colour else (thing.shape, SHAPES)
        record = self._record(
            picture_question(thing.shape if by_colour else None, thing.colour),
            with_wrong(right, pool, 2 + dice.below(MOST_OPTIONS - 1), dice),
            right,
            dice,
            image="image.png",
            subject="natural science",
            topic="pictures",
            skill="colour" if by_colour else "shape",
            lecture="A picture shows things, and each of them has a colour and a shape.",
            solution=f"The picture shows {thing.text}.",
        )
        return Problem(record, draw_picture(scene, dice))

    def _about_words(self, dice: Dice) -> Problem:
        n = 2 + dice.below(MOST_OPTIONS - 1)
        if opposite := dice.chance(0.5):
            word, right = dice.some(dice.one(self._opposites), 2)
            pool = [other for pair in self._opposites for other in pair if other != word]
            asked = opposite_question(word)
        else:
            kind = dice.one(list(self._kinds))
            right, asked = dice.one(self._kinds[kind]), kind_question(kind)
            pool = [w for other, words in self._kinds.items() if other != kind for w in words]
        record = self._record(
            asked,
            with_wrong(right, pool, n, dice),
            right,
            dice,
            subject="language science",
            topic="words",
            skill="opposites" if opposite else "kinds",
            lecture="Words have opposites, and every word is of a kind.",
            solution=f"It is {right}.",
        )
        return Problem(record)

    def _record(
        self,
        asked: str,
        chosen: Sequence[str],
        right: str,
        dice: Dice,
        *,
        hint: str = "",
        image: str | None = None,
        **described: str,
    ) -> dict[str, Any]:
        return {
            "question": asked,
            "choices": list(chosen),
            "answer": list(chosen).index(right),
            "hint": hint,
            "image": image,
            "task": "closed choice",
            "grade": f"grade{1 + dice.below(GRADES)}",
            "category": described["topic"],
            **described,
            "split": self._split,
        }


def _share(words: Sequence[Any], split: Split) -> list[Any]:
    start, stop = (round(len(words) * share) for share in _WORD_SHARES[split])
    return list(words[start:stop])
