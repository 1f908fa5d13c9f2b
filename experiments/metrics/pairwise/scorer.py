"""Two models' answers to the same questions, compared by a judge: totals, wins, position bias.

As for Vicuna's 80 questions: the judge sees both answers and gives each a score, by its instruction
from 1 to 10. It may favour the answer that it sees first; who wins is then only known where it has
seen both orders.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.metrics.intervals import t_interval


class Scores(NamedTuple):
    """One review: the scores of the answer that was shown first, and of the other."""

    answer1: float
    answer2: float


def totals(reviews: Sequence[Scores]) -> dict[str, float]:
    """Return the number of reviews, both sums of scores, and who won how often."""
    return {"reviews": len(reviews)} | _sums_and_wins(reviews)


def both_orders(pairs: Sequence[tuple[Scores, Scores]]) -> dict[str, float | None]:
    """Return the verdicts over two reviews of each question, the second with swapped answers.

    Answer 1 is the one that was first in the first review. A question's winner is who has the
    greater sum of both reviews; it is `flipped` where each review names another winner.

    `position_bias` is by how many points a score is higher because its answer was shown first: the
    mean over questions of the lead of whatever was first, averaged over both orders, so that the
    answers' own quality cancels out. With its 95 % t-interval over the questions; None for one
    question alone.
    """
    merged = [
        Scores(first.answer1 + second.answer2, first.answer2 + second.answer1)
        for first, second in pairs
    ]
    leads = [(_lead(first), _lead(second)) for first, second in pairs]
    biases = [(first + second) / 2 for first, second in leads]
    low, high = t_interval(biases) if len(biases) > 1 else (None, None)
    return (
        {"questions": len(pairs)}
        | _sums_and_wins(merged)
        # The lead is that of whoever was first: the same sign in both orders is another winner.
        | {"flipped": sum(first * second > 0 for first, second in leads)}
        | {
            "position_bias": fmean(biases),
            "position_bias_low": low,
            "position_bias_high": high,
        }
    )


def _lead(review: Scores) -> float:
    return review.answer1 - review.answer2


def _sums_and_wins(reviews: Sequence[Scores]) -> dict[str, float]:
    leads = [_lead(review) for review in reviews]
    return {
        "sum_answer1": sum(review.answer1 for review in reviews),
        "sum_answer2": sum(review.answer2 for review in reviews),
        "answer1_wins": sum(lead > 0 for lead in leads),
        "ties": sum(lead == 0 for lead in leads),
        "answer2_wins": sum(lead < 0 for lead in leads),
    }
