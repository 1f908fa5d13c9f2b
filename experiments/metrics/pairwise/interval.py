"""The t-interval of a mean."""

import math
from collections.abc import Sequence
from statistics import fmean, stdev
from typing import NamedTuple

STEPS = 2_000  # of Simpson's rule: more than single precision for any degrees of freedom


class Interval(NamedTuple):
    """A mean, and where the true one lies with the stated confidence."""

    mean: float
    low: float
    high: float


def t_interval(values: Sequence[float], confidence: float = 0.95) -> Interval:
    """Return the mean and its two-sided Student interval; ValueError for fewer than two values."""
    if len(values) < 2:
        raise ValueError("an interval needs at least two values")
    mean = fmean(values)
    half = t_quantile(0.5 + confidence / 2, len(values) - 1) * stdev(values) / len(values) ** 0.5
    return Interval(mean, mean - half, mean + half)


def t_quantile(probability: float, freedom: int) -> float:
    """Return Student's t quantile, for a probability from 0.5 up to less than 1."""
    low, high = 0.0, 1.0
    while _t_cdf(high, freedom) < probability:
        high *= 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _t_cdf(middle, freedom) < probability else (low, middle)
    return high


def _t_cdf(t: float, freedom: int) -> float:
    """P(T <= t) for t >= 0: with t = sqrt(freedom) tan(a), the density is a power of cos(a)."""
    angle = math.atan(t / math.sqrt(freedom))
    step = angle / STEPS
    weights = (1 if i in (0, STEPS) else 4 if i % 2 else 2 for i in range(STEPS + 1))
    area = sum(w * math.cos(i * step) ** (freedom - 1) for i, w in enumerate(weights)) * step / 3
    log_scale = math.lgamma((freedom + 1) / 2) - math.lgamma(freedom / 2) - math.log(math.pi) / 2
    return 0.5 + area * math.exp(log_scale)
