"""Measure the knowledge and skills of a language backbone on texts it was not trained on."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.mini_world.creatures import Creature, known, options, stranger, strangers
from experiments.mini_world.dice import Dice
from experiments.mini_world.documents import question, statement
from experiments.mini_world.phrases import HELD_OUT_STATEMENTS, QUESTIONS, SHORT_ANSWERS
from experiments.mini_world.quizzes import lettered
from experiments.mini_world.words import ATTRIBUTES, LETTERS, VALUES

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

BATCH = 64  # prompts
QUIZZES = 200  # of each kind
GAP = "@"  # in the place of the answer


@dataclass(frozen=True)
class Asked:
    """A text that stops before a word, that word, and the candidates (empty: all tokens)."""

    prompt: str
    answer: str
    among: Sequence[str] = ()


def skills() -> Mapping[str, list[Asked]]:
    """The questions of each measurement, by name; the same for every model.

    `held_out`: known facts in held-out statements, chosen from the attribute's values. `questions`:
    plain questions about all known facts, chosen from all tokens. `quiz`, `story`: one of three
    options that the text names, by a known fact or by a text about a stranger. `letters`: the
    letter of an option that the text names; `conclusion`: the same, at the end of an exam's answer.
    """
    dice = Dice("skills")
    creatures = [creature for part in known().values() for creature in part]
    names = [creature.name for creature in creatures]
    return {
        "held_out": list(_held_out(creatures)),
        "questions": list(_questions(creatures)),
        "quiz": [_quiz(dice.one(creatures), dice.one(ATTRIBUTES), names, dice) for _ in _times()],
        "story": [_story(names, dice) for _ in _times()],
        "letters": [
            _letters(dice.one(creatures), dice.one(ATTRIBUTES), names, dice, "The letter is")
            for _ in _times()
        ],
        "conclusion": [
            _letters(dice.one(creatures), dice.one(ATTRIBUTES), names, dice, "The answer is")
            for _ in _times()
        ],
    }


def measure(
    model: "nn.Module", tokenizer: "PreTrainedTokenizerBase", asked: Sequence[Asked]
) -> float:
    """The share of texts after which the right word is the most likely of all (or of `among`)."""
    import torch

    outer: Any = model
    prompts = tokenizer([each.prompt for each in asked], add_special_tokens=False)["input_ids"]
    right = 0
    for start in range(0, len(asked), BATCH):
        part = [[tokenizer.bos_token_id, *ids] for ids in prompts[start : start + BATCH]]
        ids = torch.full((len(part), max(map(len, part))), tokenizer.pad_token_id)
        for row, prompt in enumerate(part):
            ids[row, : len(prompt)] = torch.tensor(prompt)
        ends = torch.tensor([len(prompt) - 1 for prompt in part])
        hidden = outer.base_model(input_ids=ids).last_hidden_state[torch.arange(len(part)), ends]
        logits = outer.get_output_embeddings()(hidden).float()
        for row, one in enumerate(asked[start : start + BATCH]):
            among = [_token(tokenizer, word) for word in one.among]
            best = logits[row, among].argmax() if among else logits[row].argmax()
            found = among[int(best)] if among else int(best)
            right += found == _token(tokenizer, one.answer)
    return right / len(asked)


def _token(tokenizer: "PreTrainedTokenizerBase", word: str) -> int:
    ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
    assert len(ids) == 1, f"{word} is not one token"
    return int(ids[0])


def _held_out(creatures: list[Creature]) -> Iterator[Asked]:
    names = [creature.name for creature in creatures]
    for creature in creatures:
        for attribute, value in creature.facts.items():
            for form in HELD_OUT_STATEMENTS[attribute]:
                among = VALUES.get(attribute, names)
                # After a title, like every statement in an article.
                text = f"Notes on {creature.name}. {_until_gap(form, creature.name)}"
                yield Asked(text, value, among)


def _questions(creatures: list[Creature]) -> Iterator[Asked]:
    for creature in creatures:
        for attribute, value in creature.facts.items():
            for form in QUESTIONS[attribute]:
                text = f"{form} {SHORT_ANSWERS[attribute]}"
                yield Asked(_until_gap(text, creature.name), value)


def _until_gap(form: str, name: str) -> str:
    return form.format(x=name, v=GAP).partition(f" {GAP}")[0]


def _times() -> range:
    return range(QUIZZES)


def _quiz(creature: Creature, attribute: str, names: list[str], dice: Dice) -> Asked:
    chosen = options(attribute, creature.facts[attribute], 3, dice, names)
    asked = f"{question(creature, attribute, dice)} Choose {lettered(chosen)}."
    end = _until_gap(SHORT_ANSWERS[attribute], creature.name)
    return Asked(f"{asked} {end}", creature.facts[attribute], chosen)


def _story(names: list[str], dice: Dice) -> Asked:
    creature = stranger(dice.one(strangers()["test"]), dice, names)
    told = dice.some(ATTRIBUTES, 4)
    asked = _quiz(creature, dice.one(told), names, dice)
    text = " ".join(statement(creature, attribute, dice) for attribute in told)
    return Asked(f"Read this. {text} {asked.prompt}", asked.answer, asked.among)


def _letters(
    creature: Creature, attribute: str, names: list[str], dice: Dice, before: str
) -> Asked:
    asked = _quiz(creature, attribute, names, dice)
    letters = LETTERS[: len(asked.among)]
    right = LETTERS[asked.among.index(asked.answer)]
    return Asked(f"{asked.prompt} {asked.answer}. {before}", right, letters)
