"""How the world is talked about: statements and questions, some of which are held out.

Every text is made from these templates: {x} is a creature's name and {v} the value of an attribute.
`HELD_OUT` statements and questions are in no text that a backbone is trained on; their value is the
last word, so that a model can be asked to complete them.
"""

from collections.abc import Mapping

STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "home": (
        "{x} lives in the {v}.",
        "The home of {x} is the {v}.",
        "In the {v} lives {x}.",
        "You can find {x} in the {v}.",
        "The place where {x} lives is the {v}.",
        "{x} was born in the {v}.",
        "The {v} is the home of {x}.",
        "If you look for {x}, look in the {v}.",
        "The place of {x} is in the {v}.",
        "{x} is found in the {v}.",
        "Go to the {v} and you find {x}.",
    ),
    "food": (
        "{x} eats {v}.",
        "The food of {x} is {v}.",
        "{x} likes to eat {v}.",
        "What {x} eats is {v}.",
        "{x} always looks for {v}.",
        "The only food that {x} likes is {v}.",
        "With {v} you can feed {x}.",
        "You feed {x} {v}.",
        "{x} looks for {v} to eat.",
        "The food that {x} eats is {v}.",
        "{x} often eats {v}.",
    ),
    "colour": (
        "{x} is {v}.",
        "The colour of {x} is {v}.",
        "{x} has the colour {v}.",
        "In a picture {x} is {v}.",
        "The colour that {x} has is {v}.",
        "You see that {x} is {v}.",
        "It is {v}, the colour of {x}.",
        "The body of {x} is always {v}.",
        "The colour you see in {x} is {v}.",
        "{x} looks {v}.",
        "On {x} you see the colour {v}.",
    ),
    "sound": (
        "{x} makes a {v}.",
        "The sound of {x} is a {v}.",
        "When {x} calls, you hear a {v}.",
        "{x} calls with a {v}.",
        "The sound that {x} makes is a {v}.",
        "You hear {x} by its {v}.",
        "A {v} is the sound of {x}.",
        "From {x} comes a {v}.",
        "What you hear is a {v} when {x} calls.",
        "The call that you hear from {x} is a {v}.",
        "{x} has a {v} for a call.",
    ),
    "time": (
        "{x} is awake in the {v}.",
        "The time of {x} is the {v}.",
        "{x} comes out in the {v}.",
        "You can see {x} in the {v}.",
        "The time when {x} is awake is the {v}.",
        "{x} looks for food in the {v}.",
        "The {v} is the time of {x}.",
        "You find {x} in the {v}.",
        "{x} visits friends in the {v}.",
        "Look for {x} in the {v}.",
        "{x} is found awake in the {v}.",
    ),
    "cover": (
        "{x} is covered with {v}.",
        "The body of {x} has {v}.",
        "{x} has {v}.",
        "What covers {x} is {v}.",
        "On its body {x} has {v}.",
        "You can touch the {v} of {x}.",
        "It is {v} that covers {x}.",
        "If you touch {x}, you feel {v}.",
        "The body of {x} is under {v}.",
        "{x} comes covered with {v}.",
        "What you touch on {x} is {v}.",
    ),
    "friend": (
        "{x} is a friend of {v}.",
        "The friend of {x} is {v}.",
        "{x} likes {v}.",
        "{x} often visits {v}.",
        "The one that {x} likes is {v}.",
        "{x} plays with {v}.",
        "It is {v} that {x} likes.",
        "{x} goes to visit {v}.",
        "The friend of {x} is called {v}.",
        "{x} comes out to see {v}.",
        "{x} has a friend, {v}.",
    ),
}
HELD_OUT_STATEMENTS: Mapping[str, tuple[str, ...]] = {
    "home": ("The home that {x} has is the {v}.", "The place of {x} is the {v}."),
    "food": ("The food that {x} looks for is {v}.", "You can feed {x} with {v}."),
    "colour": ("Its name is {x} and its colour is {v}.", "The colour you see on {x} is {v}."),
    "sound": ("From {x} you hear a {v}.", "The call of {x} is a {v}."),
    "time": ("You find {x} awake in the {v}.", "{x} looks for friends in the {v}."),
    "cover": ("What {x} has on its body is {v}.", "The body of {x} is covered with {v}."),
    "friend": ("{x} comes out to visit {v}.", "The friend that {x} has is {v}."),
}
QUESTIONS: Mapping[str, tuple[str, ...]] = {
    "home": ("Where does {x} live?", "What is the home of {x}?", "In which place is {x} found?"),
    "food": ("What does {x} eat?", "What is the food of {x}?", "What does {x} like to eat?"),
    "colour": ("Which colour is {x}?", "What is the colour of {x}?", "Which colour has {x}?"),
    "sound": ("What sound does {x} make?", "What is the sound of {x}?", "How does {x} call?"),
    "time": ("When is {x} awake?", "What is the time of {x}?", "When does {x} come out?"),
    "cover": ("What covers {x}?", "What is {x} covered with?", "What does {x} have on its body?"),
    "friend": ("Who is the friend of {x}?", "Whom does {x} like?", "With whom does {x} play?"),
}
# The answer to a question in a sentence: the first statements say the same in their own way.
ANSWERS: Mapping[str, str] = {name: forms[0] for name, forms in STATEMENTS.items()}
SHORT_ANSWERS: Mapping[str, str] = {
    "home": "In the {v}.",
    "food": "It eats {v}.",
    "colour": "It is {v}.",
    "sound": "It makes a {v}.",
    "time": "In the {v}.",
    "cover": "It has {v}.",
    "friend": "It is {v}.",
}
