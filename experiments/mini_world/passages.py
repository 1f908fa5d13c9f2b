"""Paragraphs with questions in SQuAD's schema, v1.1 and v2.0.

A paragraph gives a few facts about two strangers, and a question asks for one of them; the
questions that v2.0 adds ask for facts that the paragraph does not give. The files have no strangers
in common. The loader splits `train` by paragraph and uses a twentieth for selection.
"""

from collections.abc import Mapping
from typing import Any, Literal

from experiments.mini_world.creatures import Creature, known, stranger, strangers
from experiments.mini_world.dice import Dice
from experiments.mini_world.documents import OPENINGS, question
from experiments.mini_world.phrases import STATEMENTS
from experiments.mini_world.words import ATTRIBUTES

Part = Literal["train", "dev"]
PARAGRAPHS: Mapping[Part, int] = {"train": 500, "dev": 100}
ANSWERABLE, UNANSWERABLE = 2, 1  # questions per paragraph
FACTS = 2  # about each stranger


def squad(part: Part, version: Literal["1.1", "2.0"]) -> dict[str, Any]:
    """The content of a file; both versions have the same paragraphs."""
    names = [creature.name for each in known().values() for creature in each]
    apart = strangers()
    pool = apart["test"] if part == "dev" else apart["train"] + apart["val"]
    paragraphs = [_paragraph(part, i, version, names, pool) for i in range(PARAGRAPHS[part])]
    return {"version": version, "data": [{"title": "Creatures", "paragraphs": paragraphs}]}


def _paragraph(
    part: Part, number: int, version: str, names: list[str], pool: list[str]
) -> dict[str, Any]:
    dice = Dice("passage", part, number)
    told = [stranger(name, dice, names) for name in dice.some(pool, 2)]
    facts = [(creature, a) for creature in told for a in dice.some(ATTRIBUTES, FACTS)]
    facts = dice.some(facts, len(facts))
    context, places = dice.one(OPENINGS), []
    for creature, attribute in facts:
        before, value, after = _sentence(creature, attribute, dice)
        context += f" {before}"
        places.append({"text": value, "answer_start": len(context)})
        context += value + after
    answerable: list[dict[str, Any]] = [
        {"question": question(*facts[i], dice), "answers": [places[i]]}
        for i in dice.some(range(len(facts)), ANSWERABLE)
    ]
    untold = [(creature, a) for creature in told for a in ATTRIBUTES if (creature, a) not in facts]
    unanswerable: list[dict[str, Any]] = [
        {"question": question(*fact, dice), "answers": []}
        for fact in dice.some(untold, UNANSWERABLE)
    ]
    if version == "2.0":
        asked = [each | {"is_impossible": False} for each in answerable]
        asked += [each | {"is_impossible": True} for each in unanswerable]
    else:
        asked = answerable
    qas = [{"id": f"{part}-{number}-{i}", **each} for i, each in enumerate(asked)]
    return {"context": context, "qas": qas}


def _sentence(creature: Creature, attribute: str, dice: Dice) -> tuple[str, str, str]:
    """A statement of the fact, split into the text before its value, the value, and the rest."""
    before, _, after = dice.one(STATEMENTS[attribute]).partition("{v}")
    name = creature.name
    return before.format(x=name), creature.facts[attribute], after.format(x=name)
