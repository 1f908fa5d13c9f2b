"""SQuAD's exact match and F1, by the rules of the official evaluation scripts.

v1.1: Rajpurkar et al., 2016, section 6.1. v2.0: Rajpurkar, Jia and Liang, 2018, section 5, where
the right answer to an unanswerable question is the empty text. All scores are percentages.
"""

import re
import string
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import TypeVar

from zia_core.errors import ZiaError

# If probabilities of "no answer" are given, predictions above this one count as empty.
NO_ANSWER_THRESHOLD = 1.0
NAMED = 3  # missing ids in an error message

Value = TypeVar("Value")
References = Mapping[str, Sequence[str]]  # question id -> all right answers; none: unanswerable

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_NO_PUNCTUATION = str.maketrans("", "", string.punctuation)


def normalised(text: str) -> str:
    """Normalise a text: lower case, no ASCII punctuation, articles or extra spaces.

    Punctuation goes first, so "a.m." does not contain an article.
    """
    return " ".join(_ARTICLES.sub(" ", text.lower().translate(_NO_PUNCTUATION)).split())


def exact_match(prediction: str, answer: str) -> float:
    """Return 1.0 if the normalised texts are equal, else 0.0."""
    return float(normalised(prediction) == normalised(answer))


def f1(prediction: str, answer: str) -> float:
    """Return the harmonic mean of precision and recall over bags of words, in [0, 1].

    It is 0 if no word is shared, and so for two texts without words (as in v1.1).
    """
    predicted, expected = normalised(prediction).split(), normalised(answer).split()
    shared = (Counter(predicted) & Counter(expected)).total()
    if shared == 0:
        return 0.0
    precision, recall = shared / len(predicted), shared / len(expected)
    return 2 * precision * recall / (precision + recall)


def by_id(rows: Iterable[tuple[str, Value]]) -> dict[str, Value]:
    """Return rows of (question id, value) as a dictionary; ZiaError for a repeated id."""
    found: dict[str, Value] = {}
    for question, value in rows:
        if question in found:
            raise ZiaError(f"the id {question} comes twice: give each question once")
        found[question] = value
    return found


def score_v1(references: References, predictions: Mapping[str, str]) -> dict[str, float]:
    """Return exact_match, f1, total, and unanswered_questions, which lack a prediction and score 0.

    Predictions for unknown ids are ignored. ZiaError for a question without a right answer.
    """
    _some(references)
    exact_sum = f1_sum = 0.0
    for question, answers in references.items():
        if not answers:
            raise ZiaError(
                f"question {question} has no answer, which only version 2.0 allows: "
                "score it as version 2.0"
            )
        if question in predictions:
            prediction = predictions[question]
            exact_sum += max(exact_match(prediction, answer) for answer in answers)
            f1_sum += max(f1(prediction, answer) for answer in answers)
    total = len(references)
    return {
        "exact_match": 100.0 * exact_sum / total,
        "f1": 100.0 * f1_sum / total,
        "total": total,
        "unanswered_questions": len(references.keys() - predictions.keys()),
    }


def pair_v2(prediction: str, answers: Sequence[str]) -> tuple[float, float]:
    """Return exact match and F1 of a prediction by version 2.0, each in [0, 1].

    If there are no answers, or only articles and punctuation, the right one is the empty text.
    Unlike in version 1.1, two texts without words have an F1 of 1.
    """
    expected = [text for text in answers if normalised(text)] or [""]
    exact = max(exact_match(prediction, text) for text in expected)
    return exact, max(exact, *(f1(prediction, text) for text in expected))


def score_v2(
    references: References,
    predictions: Mapping[str, str],
    na_probs: Mapping[str, float] | None = None,
    *,
    missing_is_zero: bool = False,
) -> dict[str, float]:
    """Return exact, f1 and total, for all questions and for those of HasAns_ and NoAns_, if any.

    `na_probs` maps question ids to probabilities of "no answer", or scores that grow with them.
    With it, predictions above NO_ANSWER_THRESHOLD are blanked, and best_exact and best_f1 are added
    with their thresholds. Those are chosen on these questions: an upper bound, not a result.
    Unknown ids are ignored.

    ZiaError for questions without a prediction, unless `missing_is_zero`, and for predictions
    without a probability.
    """
    _some(references)
    answered = [question for question in references if question in predictions]
    if not missing_is_zero:
        _none_missing(references, predictions, "prediction", "score them 0 with --missing zero")
    exact, overlap = (dict.fromkeys(references, 0.0) for _ in range(2))
    for question in answered:
        exact[question], overlap[question] = pair_v2(predictions[question], references[question])
    if na_probs is None:
        return _by_kind(references, exact, overlap)

    _none_missing(answered, na_probs, "probability of no answer", "leave --na-prob out")
    # A stable sort: questions with equal probability stay in the order of `na_probs`.
    order = [
        question
        for question in sorted(na_probs, key=na_probs.__getitem__)
        if question in references and question in predictions
    ]
    bests: dict[str, float] = {}
    for name, scores in (("exact", exact), ("f1", overlap)):
        best, threshold = _best_threshold(references, predictions, scores, order, na_probs)
        bests |= {f"best_{name}": best, f"best_{name}_thresh": threshold}
    for question in answered:
        if na_probs[question] > NO_ANSWER_THRESHOLD:
            exact[question] = overlap[question] = float(not references[question])
    return _by_kind(references, exact, overlap) | bests


def _by_kind(
    references: References, exact: Mapping[str, float], overlap: Mapping[str, float]
) -> dict[str, float]:
    answerable = [question for question, answers in references.items() if answers]
    unanswerable = [question for question, answers in references.items() if not answers]
    scores: dict[str, float] = {}
    kinds = ("", list(references)), ("HasAns_", answerable), ("NoAns_", unanswerable)
    for prefix, questions in kinds:
        if total := len(questions):
            scores[f"{prefix}exact"] = 100.0 * sum(exact[q] for q in questions) / total
            scores[f"{prefix}f1"] = 100.0 * sum(overlap[q] for q in questions) / total
            scores[f"{prefix}total"] = total
    return scores


def _best_threshold(
    references: References,
    predictions: Mapping[str, str],
    scores: Mapping[str, float],
    order: Sequence[str],
    na_probs: Mapping[str, float],
) -> tuple[float, float]:
    """Return the best percentage over all thresholds, and the lowest threshold that reaches it.

    Starts with all predictions blank and adds them one by one, the most certain first. As in the
    official script, questions with equal probability are added one at a time, and an answer to an
    unanswerable question costs one point.
    """
    sum_ = best = float(sum(not references[question] for question in order))
    threshold = 0.0
    for question in order:
        if references[question]:
            sum_ += scores[question]
        elif predictions[question]:
            sum_ -= 1
        if sum_ > best:
            best, threshold = sum_, na_probs[question]
    return 100.0 * best / len(references), threshold


def _some(references: References) -> None:
    if not references:
        raise ZiaError("there is no question to score: the references are empty")


def _none_missing(
    questions: References | Sequence[str], given: Mapping[str, object], what: str, remedy: str
) -> None:
    absent = [question for question in questions if question not in given]
    if absent:
        names = ", ".join(absent[:NAMED]) + (", ..." if len(absent) > NAMED else "")
        raise ZiaError(
            f"{len(absent):,} of {len(questions):,} questions have no {what} ({names}): "
            f"complete them, or {remedy}"
        )
