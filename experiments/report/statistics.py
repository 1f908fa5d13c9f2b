"""Verdicts from intervals and sign tests."""

from collections.abc import Sequence

from experiments.metrics.intervals import t_interval

HOLDS, FAILS, INCONCLUSIVE, NO_RUNS = "holds", "does not hold", "inconclusive", "no runs"
LEVEL = 0.95
ENOUGH = 5  # seeds that a verdict needs


def verdict(values: Sequence[float], direction: str, margin: float) -> str:
    """Return whether the mean of paired values is on the claimed side of `margin`."""
    if not values:
        return NO_RUNS
    if len(values) < ENOUGH:
        return INCONCLUSIVE
    low, high = t_interval(values)
    above, below = low > margin, high < margin
    if direction == "below":
        above, below = below, above
    return HOLDS if above else FAILS if below else INCONCLUSIVE


def sign_test(differences: Sequence[float]) -> tuple[int, int, float]:
    """Return the number of positive and of non-zero differences, and the two-sided p value."""
    from scipy.stats import binomtest

    wins = sum(difference > 0 for difference in differences)
    untied = sum(difference != 0 for difference in differences)
    p = float(binomtest(wins, untied).pvalue) if untied else 1.0
    return wins, untied, p


def sign_verdict(wins: int, untied: int, p: float) -> str:
    """Return whether significantly many, or few, differences are positive."""
    if p >= 1 - LEVEL:
        return INCONCLUSIVE
    return HOLDS if 2 * wins > untied else FAILS


def all_of(verdicts: Sequence[str]) -> str:
    """Return the verdict on a claim from those on its parts."""
    for word in (FAILS, NO_RUNS, INCONCLUSIVE):
        if word in verdicts:
            # With runs for some parts only, the claim is open.
            return INCONCLUSIVE if word == NO_RUNS and set(verdicts) != {NO_RUNS} else word
    return HOLDS if verdicts else NO_RUNS
