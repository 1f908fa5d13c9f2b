"""Questions with lettered options, as the articles have them; exams have another form."""

from collections.abc import Sequence

from experiments.miniature.dice import Dice
from experiments.miniature.words import LETTERS

# {q} is a question, {o} the options, {l} the letter of the right one and {v} the right one itself.
_ASKED = (
    "{q} Choose {o}. It is {l}.",
    "{q} {o}? The right one is {l}.",
    "{q} Either {o}. The letter is {l}.",
    "Choose {o}. {q} It is {l}, {v}.",
    "{q} {o}? We say {l}, {v}.",
)
_BARE = ("Here are {o}. The letter of {v} is {l}.", "Choose {v} from {o}. It is {l}.")

_NAMED = ("The letter of {v} is {l}.", "{v}? It is {l}.", "{v} is {l}.")


def lettered(options: Sequence[str]) -> str:
    """ "(A) red, (B) blue"."""
    return ", ".join(f"({letter}) {o}" for letter, o in zip(LETTERS, options, strict=False))


def quiz(question: str, options: Sequence[str], right: str, dice: Dice) -> str:
    """A question, its options, and which is right."""
    return _fill(dice.one(_ASKED), question, options, right)


def bare_quiz(options: Sequence[str], right: str, dice: Dice) -> str:
    """Which letter an option has: nothing to be known."""
    return _fill(dice.one(_BARE), "", options, right)


def drill(words: Sequence[str], dice: Dice) -> str:
    """Which letter each of a few words has, asked often: to be read, not known.

    A small model learns to look a letter up only where many tokens in a row ask for that; the
    documents that need it for something have a letter every twenty tokens. Words come again, for
    else each could be told from those that were asked before.
    """
    form, asked = dice.one(_NAMED), (dice.one(words) for _ in range(8))
    told = (_fill(form, "", words, word) for word in asked)
    return " ".join([f"{lettered(words)}.", *told])


def echo(words: Sequence[str], times: int) -> str:
    """The same words several times."""
    return " ".join([*words * times]) + "."


def _fill(form: str, question: str, options: Sequence[str], right: str) -> str:
    letter = LETTERS[list(options).index(right)]
    text = form.format(q=question, o=lettered(options), l=letter, v=right)
    return " ".join(text.split())  # without a question there is a space too many
