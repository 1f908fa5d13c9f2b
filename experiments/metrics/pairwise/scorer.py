"""Compare two models by a judge's scores for their answers: totals, wins, position bias.

As with Vicuna's 80 questions, the judge sees both answers and scores each, from 1 to 10. It may
favour the first, so a winner is only certain if it has seen both orders.
"""

from collections.abc import Sequence
from statistics import fmean
from typing import NamedTuple

from experiments.metrics.intervals import t_interval


class Scores(NamedTuple):
    """One review: the score of the answer shown first, and of the other."""

    answer1: float
    answer2: float


def totals(reviews: Sequence[Scores]) -> dict[str, float]:
    """Return the number of reviews, both sums of scores, and the number of wins and ties."""
    return {"reviews": len(reviews)} | _sums_and_wins(reviews)


def both_orders(pairs: Sequence[tuple[Scores, Scores]]) -> dict[str, float | None]:
    """Return totals over two reviews of each question, the second with swapped answers.

    Answer 1 is the one shown first in the first review. The greater sum over both reviews wins a
    question; it is `flipped` if the two reviews name different winners.

    `position_bias` is how many points an answer gains by being shown first: the lead of the first
    answer, averaged over both orders, so that quality cancels, and over questions. Its 95 %
    t-interval over questions is None for a single question.
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
        # The lead is that of the first answer: equal signs in both orders mean different winners.
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
