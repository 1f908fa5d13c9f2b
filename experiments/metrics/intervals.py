"""Confidence intervals."""

from collections.abc import Sequence
from math import sqrt
from statistics import mean, stdev


def t_interval(values: Sequence[float], confidence: float = 0.95) -> tuple[float, float]:
    """Two-sided Student interval of the mean: mean ± t((1 + confidence) / 2, n - 1) s / sqrt(n).

    Raises:
        ValueError: fewer than two values.
    """
    if len(values) < 2:
        raise ValueError("an interval needs at least two values")
    from scipy.stats import t  # slow to import

    quantile = float(t.ppf((1 + confidence) / 2, len(values) - 1))
    half = quantile * stdev(values) / sqrt(len(values))
    return mean(values) - half, mean(values) + half
