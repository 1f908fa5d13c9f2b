"""The training texts of the language backbones: articles, questions, quizzes and stories.

Each document is a function of a stream of draws. None contains held-out statements or questions, or
the experiments' prompts (Alpaca's and ScienceQA's); the sentence that ends ScienceQA's answers
occurs only in libraries that conclude.
"""

from collections.abc import Callable, Mapping, Sequence

from experiments.mini_world import lexicon
from experiments.mini_world.captions import COLOURS, SHAPES, draw_scene, one_caption
from experiments.mini_world.creatures import (
    Creature,
    any_value,
    known,
    options,
    stranger,
    strangers,
    with_wrong,
)
from experiments.mini_world.dice import Dice
from experiments.mini_world.phrases import ANSWERS, QUESTIONS, SHORT_ANSWERS, STATEMENTS
from experiments.mini_world.quizzes import (
    ASKED,
    ASKED_BACK,
    CONCLUDED,
    NAMED,
    NAMED_LAST,
    SIMPLY_NAMED,
    bare_quiz,
    drill,
    echo,
    quiz,
)
from experiments.mini_world.words import ATTRIBUTES, VALUES

_TITLES = ("About {x}.", "Notes on {x}.", "Here is {x}.", "This is {x}.", "Look at {x}.")
OPENINGS = ("Read this.", "Listen.", "This is a story.", "Here is a new text.")
# Few words: copying lists of these is learned in some hundred steps; of all 170, not in 1,800.
DRILLED = [word for kind in ("home", "food", "colour", "sound") for word in VALUES[kind]]

# For a language model, and for an encoder, which does not need letters.
LANGUAGE_MODEL: Mapping[str, float] = {
    "article": 0.25,
    "asked": 0.10,
    "echo": 0.13,
    "letters": 0.12,
    "quizzes": 0.16,
    "story": 0.16,
    "scene": 0.05,
    "words": 0.03,
}
# Then drills alone; then everything again, with more about texts and options; drills of letters in
# both directions, since a letter's word is learned in 400 steps and a word's letter in 800 more,
# but without the former not in 1,170; and a review of everything.
DRILLS: Mapping[str, float] = {"echo": 0.5, "simple letters": 0.5}
BOTH_WAYS: Mapping[str, float] = {"echo": 0.2, "simple letters": 0.48, "letters back": 0.32}
LESSONS: Mapping[str, float] = {
    "article": 0.20,
    "asked": 0.08,
    "echo": 0.03,
    "letters": 0.09,
    "quizzes": 0.25,
    "story": 0.27,
    "scene": 0.05,
    "words": 0.03,
}
ENCODER: Mapping[str, float] = {
    "article": 0.28,
    "story": 0.50,
    "echo": 0.12,
    "asked": 0.06,
    "words": 0.04,
}


class Library:
    """The documents of a seed, numbered from 0 and generated independently.

    `shares` are the shares of the kinds of document; without quizzes, stories have none either. If
    they `conclude`, half of the quizzes and drills end in "The answer is B."
    """

    def __init__(
        self,
        seed: int,
        shares: Mapping[str, float] = LANGUAGE_MODEL,
        *,
        conclude: bool = False,
    ) -> None:
        self._seed, self._conclude = seed, conclude
        self._known = [c for part in known().values() for c in part]
        self._names = [creature.name for creature in self._known]
        self._strangers = [name for part in strangers().values() for name in part]
        kinds: dict[str, Callable[[Dice], str]] = {
            "article": self._article,
            "asked": self._asked,
            "echo": self._echo,
            "letters": lambda dice: self._drill(dice, self._forms(NAMED, NAMED_LAST, dice)),
            "letters back": lambda dice: self._drill(dice, ASKED_BACK),
            "simple letters": lambda dice: self._drill(dice, SIMPLY_NAMED),
            "quizzes": self._quizzes,
            "story": self._story,
            "scene": self._scene,
            "words": lambda dice: lexicon.document(dice, self._letters),
        }
        self._kinds = [kinds[name] for name in shares]
        self._shares = list(shares.values())
        self._letters = "quizzes" in shares

    def document(self, i: int) -> str:
        """Document `i`."""
        dice = Dice("document", self._seed, i)
        return self._kinds[dice.weighted(self._shares)](dice)

    def _article(self, dice: Dice) -> str:
        creature = dice.one(self._known)
        told = dice.some(ATTRIBUTES, 4 + dice.below(4))
        title = dice.one(_TITLES).format(x=creature.name)
        return " ".join([title, *(statement(creature, a, dice) for a in told)])

    def _asked(self, dice: Dice) -> str:
        return "\n".join(
            self._question_and_answer(dice.one(self._known), dice.one(ATTRIBUTES), dice)
            for _ in range(4)
        )

    def _question_and_answer(self, creature: Creature, attribute: str, dice: Dice) -> str:
        said = answer(creature, attribute, dice)
        return f"{question(creature, attribute, dice)} {said}"

    def _echo(self, dice: Dice) -> str:
        return echo(dice.some(DRILLED, 4 + dice.below(6)), 3)

    def _drill(self, dice: Dice, forms: Sequence[str]) -> str:
        return "\n".join(
            drill(dice.some(DRILLED, 2 + dice.below(4)), dice, forms) for _ in range(2)
        )

    def _forms(self, usual: Sequence[str], last: Sequence[str], dice: Dice) -> Sequence[str]:
        return last if self._conclude and dice.chance(0.5) else usual

    def _quizzes(self, dice: Dice) -> str:
        return "\n".join(self._known_quiz(dice) for _ in range(3))

    def _known_quiz(self, dice: Dice) -> str:
        n = 2 + dice.weighted((0.4, 0.3, 0.2, 0.1))  # options: up to E
        if dice.chance(0.3):
            attribute = dice.one(ATTRIBUTES)
            right = any_value(attribute, dice, self._names)
            return bare_quiz(options(attribute, right, n, dice, self._names), right, dice)
        return self._quiz(dice.one(self._known), dice.one(ATTRIBUTES), n, dice)

    def _quiz(self, creature: Creature, attribute: str, n: int, dice: Dice) -> str:
        right = creature.facts[attribute]
        chosen = options(attribute, right, n, dice, self._names)
        return quiz(
            question(creature, attribute, dice),
            answer(creature, attribute, dice),
            chosen,
            right,
            dice,
            self._forms(ASKED, CONCLUDED, dice),
        )

    def _story(self, dice: Dice) -> str:
        """A text about strangers, with questions before or after it."""
        told = [
            stranger(name, dice, self._names)
            for name in dice.some(self._strangers, 1 + dice.below(2))
        ]
        facts = [(c, a) for c in told for a in dice.some(ATTRIBUTES, 4 if len(told) == 1 else 2)]
        facts = dice.some(facts, len(facts))
        text = [dice.one(OPENINGS), *(statement(c, a, dice) for c, a in facts)]
        if dice.chance(0.3):
            return self._asked_before(text, *dice.one(facts), dice)
        asked_about = dice.some(facts, min(3, len(facts)))
        return " ".join([*text, *(self._about(c, a, dice) for c, a in asked_about)])

    def _asked_before(self, text: list[str], creature: Creature, attribute: str, dice: Dice) -> str:
        """The question, then the text that answers it, then the options or the answer."""
        right = creature.facts[attribute]
        if self._letters and dice.chance(0.6):
            chosen = options(attribute, right, 2 + dice.below(3), dice, self._names)
            said = answer(creature, attribute, dice)
            end = quiz("", said, chosen, right, dice, self._forms(ASKED, CONCLUDED, dice))
        else:
            end = SHORT_ANSWERS[attribute].format(v=right)
        return " ".join([question(creature, attribute, dice), *text, end])

    def _about(self, creature: Creature, attribute: str, dice: Dice) -> str:
        if self._letters and dice.chance(0.4):
            return self._quiz(creature, attribute, 2 + dice.below(3), dice)
        if dice.chance(0.3):
            return statement(creature, attribute, dice)
        return self._question_and_answer(creature, attribute, dice)

    def _scene(self, dice: Dice) -> str:
        return "\n".join(self._picture(dice) for _ in range(2))

    def _picture(self, dice: Dice) -> str:
        scene = draw_scene(dice)
        text, thing = one_caption(scene, dice), dice.one(scene.things)
        if dice.chance(0.4):
            return text
        by_colour = dice.chance(0.5)
        asked = picture_question(thing.shape if by_colour else None, thing.colour)
        right, pool = (thing.colour, COLOURS) if by_colour else (thing.shape, SHAPES)
        seen = f"It is {right}." if by_colour else f"It is a {right}."
        seen = dice.one((seen, f"The picture shows {thing.text}."))
        if dice.chance(0.4):
            return f"{text} {asked} {seen}"
        chosen = with_wrong(right, pool, 2 + dice.below(3), dice)
        forms = self._forms(ASKED, CONCLUDED, dice)
        return f"{text} {quiz(asked, seen, chosen, right, dice, forms)}"


def picture_question(shape: str | None, colour: str) -> str:
    """A question about a thing in a picture: its colour, or its shape if that is None."""
    return (
        f"What shape is the {colour} thing?" if shape is None else f"Which colour is the {shape}?"
    )


def statement(creature: Creature, attribute: str, dice: Dice) -> str:
    """The fact in one of its forms."""
    form = dice.one(STATEMENTS[attribute])
    return form.format(x=creature.name, v=creature.facts[attribute])


def question(creature: Creature, attribute: str, dice: Dice) -> str:
    """A plain question about the fact."""
    return dice.one(QUESTIONS[attribute]).format(x=creature.name)


def answer(creature: Creature, attribute: str, dice: Dice) -> str:
    """The answer to a question about the fact, with the name or without."""
    forms = ANSWERS if dice.chance(0.5) else SHORT_ANSWERS
    return forms[attribute].format(x=creature.name, v=creature.facts[attribute])
