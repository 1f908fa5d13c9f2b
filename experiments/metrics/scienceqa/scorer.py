"""ScienceQA's accuracy by class, by the rules of the official scorer (Lu et al., 2022, section 5).

The columns of the paper's table 2: three subjects, three kinds of context, two groups of grades,
and the average. A question with a hint *and* an image counts in both TXT and IMG.
"""

import re
from collections.abc import Callable, Mapping
from typing import NamedTuple

from zia_core.errors import ZiaError

LETTERS = "ABCDE"
NAMED = 3  # ids in an error message
# The official expression, where the unescaped full stop matches any character.
ANSWER = re.compile(r"The answer is ([A-Z]).")


class Question(NamedTuple):
    """The fields of a problem that scoring needs; `answer` is an index into `choices` options."""

    choices: int
    answer: int
    subject: str
    topic: str
    grade: int
    has_text: bool  # the hint is not empty
    has_image: bool


class Class(NamedTuple):
    """A column of the table."""

    column: str  # the paper's name
    key: str  # the official scorer's name
    holds: Callable[[Question], bool]


CLASSES = (
    Class("NAT", "acc_natural", lambda q: q.subject == "natural science"),
    Class("SOC", "acc_social", lambda q: q.subject == "social science"),
    Class("LAN", "acc_language", lambda q: q.subject == "language science"),
    Class("TXT", "acc_has_text", lambda q: q.has_text),
    Class("IMG", "acc_has_image", lambda q: q.has_image),
    Class("NO", "acc_no_context", lambda q: not q.has_text and not q.has_image),
    Class("G1-6", "acc_grade_1_6", lambda q: 1 <= q.grade <= 6),
    Class("G7-12", "acc_grade_7_12", lambda q: 7 <= q.grade <= 12),
    Class("Avg", "acc_average", lambda q: True),
)
_NAMES = """
punctuation literacy-in-science verbs pronouns civics culture word-study economics physics
units-and-measurement science-and-engineering-practices reading-comprehension global-studies grammar
figurative-language us-history writing-strategies world-history reference-skills biology
earth-science phonological-awareness capitalization chemistry vocabulary geography
"""
TOPICS = _NAMES.split()


def parse_answer(output: str, choices: int) -> int | None:
    """Return the index of the option that a text chooses; None if it cannot be parsed.

    By the official rule, "The answer is X." must occur exactly once, and X be an option's letter.
    (Otherwise the official scorer draws an option at random; here the answer is wrong.)
    """
    letters = ANSWER.findall(output)
    options = LETTERS[:choices]
    return options.index(letters[0]) if len(letters) == 1 and letters[0] in options else None


def score(
    questions: Mapping[str, Question], predictions: Mapping[str, int | None]
) -> dict[str, float]:
    """Return accuracy in percent by class and topic, without empty classes.

    Also `correct`, `count`, and `unparsable`, the number of predictions that are None, which are
    wrong. ZiaError unless the predictions are for exactly these questions.
    """
    for ids, what in (
        (questions.keys() - predictions.keys(), "questions have no prediction"),
        (predictions.keys() - questions.keys(), "predictions are for unknown questions"),
    ):
        if ids:
            raise ZiaError(f"{len(ids):,} {what}: {named(ids)}; give one prediction a question")
    if not questions:
        raise ZiaError("there is no question to score: give at least one")
    right = {pid: predictions[pid] == question.answer for pid, question in questions.items()}
    groups = {
        column.key: [right[pid] for pid, question in questions.items() if column.holds(question)]
        for column in CLASSES
    }
    for topic in TOPICS:
        groups[f"acc_{topic}"] = [right[pid] for pid, q in questions.items() if q.topic == topic]
    counts = {
        "correct": sum(right.values()),
        "count": len(right),
        "unparsable": sum(index is None for index in predictions.values()),
    }
    return {key: 100 * sum(group) / len(group) for key, group in groups.items() if group} | counts


def named(ids: set[str]) -> str:
    """The first few ids, in numeric order, for a message."""
    first = sorted(
        ids, key=lambda pid: (not pid.isdecimal(), int(pid) if pid.isdecimal() else 0, pid)
    )
    return ", ".join(first[:NAMED]) + (", ..." if len(ids) > NAMED else "")
