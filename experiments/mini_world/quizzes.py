"""Questions with lettered options, as the articles have them; exams have another form."""

from collections.abc import Sequence

from experiments.mini_world.dice import Dice
from experiments.mini_world.words import LETTERS

# {q} is a question, {o} the options, {a} the answer in words, {l} its letter and {v} the option.
# The words mostly come first: which letter a thing has that is known but was not said is more than
# these models learn.
ASKED = (
    "{q} Choose {o}. {a} It is {l}.",
    "{q} {o}? {a} The right one is {l}.",
    "{q} Either {o}. {a} That is {l}.",
    "Choose {o}. {q} {a} The letter is {l}.",
    "{q} {o}? We say {l}, {v}.",
)
# Only the last stage of the language model reads these: how an exam's answer ends.
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
    """ "(A) red, (B) blue"."""
    return ", ".join(f"({letter}) {o}" for letter, o in zip(LETTERS, options, strict=False))


def quiz(
    question: str,
    answer: str,
    options: Sequence[str],
    right: str,
    dice: Dice,
    forms: Sequence[str] = ASKED,
) -> str:
    """A question, its options, the answer in words, and which option that is."""
    return _fill(dice.one(forms), options, right, question, answer)


def bare_quiz(options: Sequence[str], right: str, dice: Dice) -> str:
    """Which letter an option has: nothing to be known."""
    return _fill(dice.one(_BARE), options, right)


def drill(words: Sequence[str], dice: Dice, forms: Sequence[str] = NAMED) -> str:
    """Which letter each of a few words has, asked often: to be read, not known.

    A small model learns to look a letter up only where many tokens in a row ask for that; the
    documents that need it for something have a letter every twenty tokens. Words come again, for
    else each could be told from those that were asked before.
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
    return " ".join(text.split())  # without a question there is a space too many
