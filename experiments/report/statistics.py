"""Verdicts from intervals and sign tests.

A verdict on paired differences compares their 95 % t-interval with two things that were declared
before the runs: the claim's margin, and a band around "no difference". In this order:

- holds: the interval is on the claimed side of the margin
- does not hold: it is on the other side
- level: it is inside the band, so the methods differ by less than what matters; these are two
  one-sided tests at 2.5 % each (Schuirmann 1987)
- inconclusive: anything else, or fewer than five seeds
"""

from collections.abc import Sequence
from math import sqrt
from statistics import stdev

from experiments.metrics.intervals import t_interval

HOLDS, FAILS, LEVEL = "holds", "does not hold", "level"
INCONCLUSIVE, NO_RUNS = "inconclusive", "no runs"
DECIDED = (HOLDS, FAILS, LEVEL)
ORDER = (*DECIDED, INCONCLUSIVE, NO_RUNS)
CONFIDENCE = 0.95
POWER = 0.8
ENOUGH = 5  # seeds that a verdict needs


def verdict(
    values: Sequence[float], direction: str, margin: float, band: tuple[float, float]
) -> str:
    """Return whether the mean of paired values is on the claimed side of `margin`, or in `band`."""
    if not values:
        return NO_RUNS
    if len(values) < ENOUGH:
        return INCONCLUSIVE
    low, high = t_interval(values, CONFIDENCE)
    above, below = low > margin, high < margin
    if direction == "below":
        above, below = below, above
    if above or below:
        return HOLDS if above else FAILS
    return LEVEL if band[0] < low and high < band[1] else INCONCLUSIVE


def detectable(values: Sequence[float]) -> float:
    """Return how far from the margin a true mean is found to differ from it in 80 % of repeats.

    With s the standard deviation of n paired values, it is (t(0.975) + t(0.8)) s / sqrt(n), with
    n - 1 degrees of freedom: the usual approximation, whose power at n = 5 is 79 %. ValueError
    below two values.
    """
    if len(values) < 2:
        raise ValueError("a spread needs at least two values")
    from scipy.stats import t  # slow to import

    quantiles = t.ppf([(1 + CONFIDENCE) / 2, POWER], len(values) - 1)
    return float(sum(quantiles)) * stdev(values) / sqrt(len(values))


def sign_test(differences: Sequence[float]) -> tuple[int, int, float]:
    """Return the number of positive and of non-zero differences, and the two-sided p value."""
    from scipy.stats import binomtest

    wins = sum(difference > 0 for difference in differences)
    untied = sum(difference != 0 for difference in differences)
    p = float(binomtest(wins, untied).pvalue) if untied else 1.0
    return wins, untied, p


def wins_needed(untied: int) -> int | None:
    """Return the fewest wins of `untied` tasks that decide; None if not even all of them do."""
    wins = range(untied // 2, untied + 1)
    return next(
        (n for n in wins if sign_test([1] * n + [-1] * (untied - n))[2] < 1 - CONFIDENCE), None
    )


def sign_verdict(wins: int, untied: int, p: float) -> str:
    """Return whether significantly many, or few, differences are positive."""
    if p >= 1 - CONFIDENCE:
        return INCONCLUSIVE
    return HOLDS if 2 * wins > untied else FAILS


def all_of(verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim from those on its parts.

    One part that does not hold refutes the claim. Else one that is open leaves it open. Else one
    that is level makes it level: "better in each" was not found, nor was "worse in any".
    """
    if not verdicts or set(verdicts) == {NO_RUNS}:
        return NO_RUNS
    if FAILS in verdicts:
        return FAILS
    if {INCONCLUSIVE, NO_RUNS} & {*verdicts}:
        return INCONCLUSIVE
    return LEVEL if LEVEL in verdicts else HOLDS
