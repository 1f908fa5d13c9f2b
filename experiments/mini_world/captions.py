"""Scenes of coloured shapes, and their captions; `scenes` draws the pictures."""

from collections.abc import Sequence
from dataclasses import dataclass

from experiments.mini_world.dice import Dice
from experiments.mini_world.words import NUMBERS, VALUES

COLOURS = VALUES["colour"]
SHAPES = ("circle", "square", "triangle", "cross", "ring", "diamond")
GROUNDS = ("plain", "striped", "dotted")
# Where the first of two things is relative to the second, and the inverse relation.
RELATIONS = {"left of": "right of", "above": "below"}
_FORMS = (
    "{a} {on}",
    "a picture of {a}",
    "there is {a} {on}",
    "{a} in a picture with {on2}",
    "the picture shows {a}",
    "you can see {a} {on}",
)
CAPTIONS = 5  # per image, as in COCO


@dataclass(frozen=True)
class Thing:
    """A coloured shape."""

    colour: str
    shape: str

    @property
    def text(self) -> str:
        """Its name with an article."""
        article = "an" if self.colour[0] in "aeiou" else "a"
        return f"{article} {self.colour} {self.shape}"


@dataclass(frozen=True)
class Scene:
    """One to three different things on a ground; if two, `relation` places the first."""

    things: tuple[Thing, ...]
    ground: str
    relation: str

    @property
    def texts(self) -> Sequence[str]:
        """The ways to name the things."""
        a = [thing.text for thing in self.things]
        if len(a) == 1:
            return [a[0]]
        if len(a) == 2:
            first, second, back = *a, RELATIONS[self.relation]
            return [
                f"{first} and {second}",
                f"{second} and {first}",
                f"{first} {self.relation} {second}",
                f"{second} {back} {first}",
            ]
        number = NUMBERS[len(a) - 1]
        return [f"{a[i]}, {a[j]} and {a[k]}" for i, j, k in ((0, 1, 2), (2, 0, 1), (1, 2, 0))] + [
            f"{number} things, {a[0]}, {a[1]} and {a[2]}"
        ]


def draw_scene(dice: Dice) -> Scene:
    """Draw a scene; its things differ in both shape and colour."""
    n = 1 + dice.weighted((0.4, 0.4, 0.2))
    pairs = zip(dice.some(COLOURS, n), dice.some(SHAPES, n), strict=True)
    things = tuple(Thing(colour, shape) for colour, shape in pairs)
    return Scene(things, dice.one(GROUNDS), dice.one(list(RELATIONS)))


def captions(scene: Scene, dice: Dice) -> list[str]:
    """Five captions of different forms."""
    return [_caption(scene, form, dice) for form in dice.some(_FORMS, CAPTIONS)]


def one_caption(scene: Scene, dice: Dice) -> str:
    """One of the ways to describe the scene."""
    return _caption(scene, dice.one(_FORMS), dice)


def _caption(scene: Scene, form: str, dice: Dice) -> str:
    ground = f"{scene.ground} ground"
    text = form.format(a=dice.one(scene.texts), on=f"on a {ground}", on2=f"a {ground}")
    return text[0].upper() + text[1:] + "."
