"""Questions with lettered options for training texts; exams have another form."""

from collections.abc import Sequence

from experiments.mini_world.dice import Dice
from experiments.mini_world.words import LETTERS

# {q} is a question, {o} the options, {a} the answer in words, {l} its letter and {v} the option.
# The words mostly come first: models of this size do not learn the letter of a word that they know
# but have not just read.
ASKED = (
    "{q} Choose {o}. {a} It is {l}.",
    "{q} {o}? {a} The right one is {l}.",
    "{q} Either {o}. {a} That is {l}.",
    "Choose {o}. {q} {a} The letter is {l}.",
    "{q} {o}? We say {l}, {v}.",
)
# Endings of an exam's answer, for the last stage of the language model only.
CONCLUDED = (
    "{q} {o}. {a} The answer is {l}.",
    "{q} Choose {o}. {a} The answer is {l}.",
    "Here are {o}. {q} {a} The answer is {l}.",
)
_BARE = ("Here are {o}. The letter of {v} is {l}.", "Choose {v} from {o}. It is {l}.")

SIMPLY_NAMED = ("The letter of {v} is {l}.", "{v}? It is {l}.", "{v} is {l}.")
ASKED_BACK = ("({l}) is {v}.", "{l} is {v}.", "({l}) {v}.")
NAMED = (
    *SIMPLY_NAMED,
    "It is {v}. The letter is {l}.",
    "In the {v}. It is {l}.",
    "It has {v}. That is {l}.",
)
NAMED_LAST = ("It is {v}. The answer is {l}.", "In the {v}. The answer is {l}.")


def lettered(options: Sequence[str]) -> str:
    """The options as "(A) red, (B) blue"."""
    return ", ".join(f"({letter}) {o}" for letter, o in zip(LETTERS, options, strict=False))


def quiz(
    question: str,
    answer: str,
    options: Sequence[str],
    right: str,
    dice: Dice,
    forms: Sequence[str] = ASKED,
) -> str:
    """A question, its options, the answer in words, and its letter."""
    return _fill(dice.one(forms), options, right, question, answer)


def bare_quiz(options: Sequence[str], right: str, dice: Dice) -> str:
    """A question for the letter of an option, which needs no knowledge."""
    return _fill(dice.one(_BARE), options, right)


def drill(words: Sequence[str], dice: Dice, forms: Sequence[str] = NAMED) -> str:
    """Ask many times for the letters of a few words.

    A small model learns to look letters up only if many tokens in a row ask for it; other documents
    have one letter in twenty tokens. Words repeat, or the model could exclude those already asked.
    """
    form, asked = dice.one(forms), (dice.one(words) for _ in range(8))
    told = (_fill(form, words, word) for word in asked)
    return " ".join([f"{lettered(words)}.", *told])


def echo(words: Sequence[str], times: int) -> str:
    """The same words several times."""
    return " ".join(list(words) * times) + "."


def _fill(
    form: str, options: Sequence[str], right: str, question: str = "", answer: str = ""
) -> str:
    letter = LETTERS[list(options).index(right)]
    text = form.format(q=question, a=answer, o=lettered(options), l=letter, v=right)
    return " ".join(text.split())  # drops the extra space if there is no question
