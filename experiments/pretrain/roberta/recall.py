"""Measure how well an encoder predicts masked words in texts it was not trained on."""

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from experiments.mini_world.creatures import Creature, known, stranger, strangers
from experiments.mini_world.dice import Dice
from experiments.mini_world.documents import question, statement
from experiments.mini_world.phrases import HELD_OUT_STATEMENTS, SHORT_ANSWERS
from experiments.mini_world.tokenizer import SPECIAL
from experiments.mini_world.words import ATTRIBUTES

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

BATCH = 64  # texts
STORIES = 300  # of each kind
MASK = SPECIAL["mask"]


class Masked(NamedTuple):
    """A text with one masked word, and that word."""

    text: str
    answer: str


def skills() -> Mapping[str, list[Masked]]:
    """The texts of each measurement, by name; the same for every model.

    `held_out`: known facts in held-out statements. `retold`, `answered`: a fact from a text about
    two strangers, repeated in a held-out statement or as the answer to a question.
    """
    dice = Dice("encoder skills")
    return {
        "held_out": list(_held_out([c for part in known().values() for c in part])),
        "retold": [_story(dice, asked=False) for _ in range(STORIES)],
        "answered": [_story(dice, asked=True) for _ in range(STORIES)],
    }


def measure(
    model: "nn.Module", tokenizer: "PreTrainedTokenizerBase", masked: Sequence[Masked]
) -> float:
    """The share of masked words that are the most likely of all tokens in their place."""
    outer: Any = model
    right = 0
    for start in range(0, len(masked), BATCH):
        part = masked[start : start + BATCH]
        batch = tokenizer([each.text for each in part], padding=True, return_tensors="pt")
        hidden = outer.base_model(batch["input_ids"], batch["attention_mask"]).last_hidden_state
        place = batch["input_ids"] == tokenizer.mask_token_id
        found = outer.lm_head(hidden[place]).argmax(dim=-1)
        words = tokenizer([f" {each.answer}" for each in part], add_special_tokens=False)
        right += sum([int(f)] == w for f, w in zip(found, words["input_ids"], strict=True))
    return right / len(masked)


def _held_out(creatures: list[Creature]) -> Iterator[Masked]:
    for creature in creatures:
        for attribute, value in creature.facts.items():
            for form in HELD_OUT_STATEMENTS[attribute]:
                # After a title, like every statement in an article.
                text = f"Notes on {creature.name}. {_masked(form, creature.name)}"
                yield Masked(text, value)


def _story(dice: Dice, *, asked: bool) -> Masked:
    names = [creature.name for part in known().values() for creature in part]
    told = [stranger(name, dice, names) for name in dice.some(strangers()["test"], 2)]
    facts = dice.some([(c, a) for c in told for a in dice.some(ATTRIBUTES, 2)], 4)
    creature, attribute = dice.one(facts)
    story = " ".join(["Read this.", *(statement(c, a, dice) for c, a in facts)])
    if asked:
        form = f"{question(creature, attribute, dice)} {SHORT_ANSWERS[attribute]}"
    else:
        form = dice.one(HELD_OUT_STATEMENTS[attribute])
    return Masked(f"{story} {_masked(form, creature.name)}", creature.facts[attribute])


def _masked(form: str, name: str) -> str:
    """The statement with its value masked, including the space before it."""
    return form.format(x=name, v=MASK).replace(f" {MASK}", MASK)
