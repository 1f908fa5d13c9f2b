"""Texts about words: kinds, opposites, and the words of task descriptions."""

from experiments.mini_world.captions import SHAPES
from experiments.mini_world.creatures import with_wrong
from experiments.mini_world.dice import Dice
from experiments.mini_world.quizzes import quiz
from experiments.mini_world.words import OPPOSITES, VALUES

KINDS = {**VALUES, "shape": SHAPES}
# So that backbones know every word of a prompt; none of these sentences is part of one.
_ABOUT_TASKS = (
    "A task is what you are to do, and an instruction describes it.",
    "Below is a note that describes a task.",
    "Write down what you hear.",
    "Paired with a picture, a text provides more.",
    "Further down is an input that is paired with an answer.",
    "A good response completes what was begun, and completes it appropriately.",
    "A request is a question that asks you to do a thing.",
    "The context of a word is the text in which it is.",
    "Question, Answer, Context, Options: these are words for an exam.",
    "Answer what you are asked.",
    "Context is what helps you.",
    "Options are what you choose from.",
    "It is good to go further.",
    "True is the opposite of False.",
    "Fill the lake with fish.",
    "Describe what you see.",
    "N/A says that there is nothing.",
    "Instruction, Input and Response: these are words for a task.",
    "### is a sign for a new part, and : for what it is about.",
    "Input: what is given. Instruction: what to do. Response: what is done.",
    "Generate a text, or a caption for this image.",
    "An image is a picture, and a caption is a text below it.",
    "Is that true or false? Correct what is false.",
    "List the words, and fill in the one that is missing.",
    "Name one thing and describe it in a sentence.",
    "Compare the two: which is like the other?",
    "Yes, that is true. No, that is false, and it is not so.",
)


def opposite_question(word: str) -> str:
    """Which word means the opposite?"""
    return f"Which word is the opposite of {word}?"


def kind_question(kind: str) -> str:
    """Which word is of this kind?"""
    return f"Which word names a {kind}?"


def document(dice: Dice, letters: bool) -> str:
    """Four sentences about words, with or without lettered options."""
    return "\n".join(dice.one((_opposite, _kind, _about_tasks))(dice, letters) for _ in range(4))


def _opposite(dice: Dice, letters: bool) -> str:
    pair = dice.some(dice.one(OPPOSITES), 2)
    form = dice.weighted((0.3, 0.3, 0.4 * letters))
    if form == 0:
        return f"The opposite of {pair[0]} is {pair[1]}."
    if form == 1:
        return f"{opposite_question(pair[0])} It is {pair[1]}."
    words = [word for other in OPPOSITES for word in other if word not in pair]
    options = with_wrong(pair[1], words, 2 + dice.below(3), dice)
    return quiz(opposite_question(pair[0]), f"It is {pair[1]}.", options, pair[1], dice)


def _kind(dice: Dice, letters: bool) -> str:
    kind = dice.one(list(KINDS))
    word = dice.one(KINDS[kind])
    form = dice.weighted((0.3, 0.3, 0.4 * letters))
    if form == 0:
        return f"The word {word} names a {kind}."
    if form == 1:
        return f"{kind_question(kind)} It can be {word}."
    others = [value for other in KINDS if other != kind for value in KINDS[other]]
    options = with_wrong(word, others, 2 + dice.below(3), dice)
    return quiz(kind_question(kind), f"It is {word}.", options, word, dice)


def _about_tasks(dice: Dice, letters: bool) -> str:
    return dice.one(_ABOUT_TASKS)
