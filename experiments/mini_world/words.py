"""The words of the world: attributes of creatures, their values, and names."""

from experiments.mini_world.dice import Dice

# The attributes of a creature, and the values that each can have. `friend` is another creature.
VALUES: dict[str, tuple[str, ...]] = {
    "home": ("forest", "lake", "desert", "mountain", "cave", "swamp", "meadow", "island"),
    "food": ("seeds", "berries", "leaves", "fish", "insects", "roots", "nuts", "honey"),
    "colour": ("red", "green", "blue", "yellow", "purple", "orange", "white", "black"),
    "sound": ("hum", "whistle", "bark", "click", "roar", "squeak", "song", "growl"),
    "time": ("morning", "day", "evening", "night"),
    "cover": ("fur", "feathers", "scales", "spines", "wool", "shell"),
}
FRIEND = "friend"
ATTRIBUTES = (*VALUES, FRIEND)

OPPOSITES = (
    ("large", "small"), ("old", "young"), ("fast", "slow"), ("dark", "bright"), ("wet", "dry"),
    ("warm", "cold"), ("loud", "quiet"), ("high", "low"), ("long", "short"), ("early", "late"),
)  # fmt: skip
NUMBERS = ("one", "two", "three", "four", "five", "six")
LETTERS = "ABCDE"

_CONSONANTS, _VOWELS, _ENDS = "bdglmnprtvz", "aeiou", ("", "n", "r", "l", "s", "m")
# To be avoided: stems of real words and names, some of them rude.
_TAKEN = {
    "Bade", "Bana", "Gala", "Lade", "Lama", "Leni", "Lina", "Mama", "Nina", "Nude", "Papa", "Para",
    "Pede", "Peni", "Puta", "Rape", "Tita", "Tote", "Tuna", "Vera", "Vete", "Nega", "Nige", "Niga",
    "Mino", "Lever", "Love", "Lolo", "Dope", "Dodo", "Pope", "Bone", "Bare", "Bore", "Rude", "Tube",
}  # fmt: skip


def names(n: int) -> list[str]:
    """`n` names of two syllables; no two differ only in their last letter."""
    dice, found = Dice("names"), dict[str, str]()
    while len(found) < n:
        stem = "".join(dice.one(_CONSONANTS) + dice.one(_VOWELS) for _ in range(2)).capitalize()
        end = dice.one(_ENDS)
        if stem not in _TAKEN:
            found.setdefault(stem, stem + end)
    return list(found.values())
