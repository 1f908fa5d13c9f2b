"""Verdicts on paired differences: four outcomes, their precedence, and what could be shown."""

import numpy as np
import pytest

from experiments.report.statistics import all_of, detectable, verdict

# Differences with mean 0 and s = sqrt(0.5), whose interval of five is ± 0.878.
FIVE = (-1.0, 0.0, 1.0, 0.0, 0.0)
BAND = (-2.0, 2.0)


@pytest.mark.parametrize(
    ("mean", "direction", "margin", "expected"),
    [
        (1.0, "above", 0.0, "holds"),  # [0.12, 1.88] is also in the band: holds comes first
        (-1.0, "above", 0.0, "does not hold"),
        (-1.0, "below", 0.0, "holds"),
        (1.0, "below", 0.0, "does not hold"),
        (0.5, "above", 0.0, "level"),
        (0.5, "below", 0.0, "level"),
        (1.0, "above", 0.5, "level"),
        (1.2, "above", 0.5, "inconclusive"),  # [0.32, 2.08] leaves the band above
        (-1.2, "above", -0.5, "inconclusive"),  # [-2.08, -0.32] leaves it below
        (1.5, "above", 0.5, "holds"),  # [0.62, 2.38]
        (-0.5, "above", -2.0, "holds"),  # at most 2 worse
    ],
)
def test_an_interval_is_beyond_the_margin_in_the_band_or_neither(
    mean: float, direction: str, margin: float, expected: str
) -> None:
    assert verdict([mean + value for value in FIVE], direction, margin, BAND) == expected


def test_four_seeds_decide_nothing() -> None:
    assert verdict([0.0] * 4, "above", 0.0, BAND) == "inconclusive"
    assert verdict([5.0, 5.1, 5.2, 5.3], "above", 0.0, BAND) == "inconclusive"
    assert verdict([], "above", 0.0, BAND) == "no runs"


def test_the_band_of_a_ratio_is_around_one() -> None:
    ratios = [0.99, 1.0, 1.01, 1.0, 1.0]
    assert verdict(ratios, "below", 1.0, (0.95, 1.05)) == "level"
    assert verdict(ratios, "below", 0.37, (0.95, 1.05)) == "does not hold"


@pytest.mark.parametrize(("seeds", "power"), [(5, 0.791), (10, 0.799)])
def test_a_detectable_difference_is_found_in_four_of_five_repeats(seeds: int, power: float) -> None:
    spread = np.random.default_rng(0).normal(size=seeds)
    spread = (spread - spread.mean()) / spread.std(ddof=1)  # s = 1
    repeats = np.random.default_rng(1).normal(detectable(spread.tolist()), size=(2000, seeds))
    found = sum(verdict(one, "above", 0.0, BAND) == "holds" for one in repeats.tolist())
    assert found / 2000 == pytest.approx(power, abs=0.02)


@pytest.mark.parametrize(
    ("mean", "spread", "least", "most"),
    [(0.0, 0.5, 0.9, 1.0), (2.0, 0.5, 0.0, 0.025), (2.0, 2.0, 0.0, 0.025), (-2.0, 2.0, 0.0, 0.025)],
)
def test_a_difference_as_large_as_the_band_is_rarely_called_level(
    mean: float, spread: float, least: float, most: float
) -> None:
    repeats = np.random.default_rng(0).normal(mean, spread, size=(2000, 5)).tolist()
    share = sum(verdict(one, "above", 0.0, BAND) == "level" for one in repeats) / 2000
    assert least <= share <= most


def test_a_claim_with_several_parts() -> None:
    assert all_of(["holds", "holds"]) == "holds"
    assert all_of(["holds", "does not hold", "inconclusive"]) == "does not hold"
    assert all_of(["holds", "inconclusive"]) == "inconclusive"
    assert all_of(["holds", "no runs"]) == "inconclusive"
    assert all_of(["no runs", "no runs"]) == all_of([]) == "no runs"
    assert all_of(["holds", "level"]) == "level"
    assert all_of(["level", "inconclusive"]) == "inconclusive"
    assert all_of(["level", "does not hold"]) == "does not hold"
