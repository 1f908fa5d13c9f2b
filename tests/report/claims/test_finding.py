"""What a claim's finding says in short."""

from pathlib import Path

import pytest

from experiments.report.claims.definition import Comparison
from experiments.report.claims.finding import Finding, paired, together
from experiments.report.claims.results import Result, results_of
from experiments.report.runs import read_runs
from experiments.report.statistics import FAILS, HOLDS, INCONCLUSIVE, NO_RUNS, wins_needed

HELD = Finding(HOLDS, "a: +1.000 points, n=5", "a: +1.0 points")
FAILED = Finding(FAILS, "b: -1.000 points, n=5", "b: -1.0 points")


def left_open(name: str, remark: str) -> Finding:
    return Finding(INCONCLUSIVE, f"{name}, at length", name, remark)


def test_only_the_parts_that_decide_are_in_the_brief() -> None:
    found = together([HELD, FAILED, left_open("c", "1 seed")])
    assert found.verdict == FAILS
    assert found.in_short == "b: -1.0 points"
    assert found.evidence == (
        f"{HELD.evidence} (holds); {FAILED.evidence} (does not hold); c, at length (inconclusive)"
    )
    assert together([HELD, HELD]).in_short == "a: +1.0 points; a: +1.0 points"
    assert together([HELD, left_open("c", "1 seed")]).in_short == "c (1 seed)"
    missing = Finding(NO_RUNS, "d: no runs of lora")
    assert together([HELD, missing]).in_short == "a: +1.0 points; d: no runs of lora"


def test_parts_in_a_row_share_a_remark() -> None:
    parts = [left_open(*of) for of in (("a", "x"), ("b", "x"), ("c", "y"), ("d", "x"), ("e", ""))]
    assert together(parts).in_short == "a; b (x); c (y); d (x); e"


@pytest.mark.parametrize(
    ("untied", "wins"), [(0, None), (5, None), (6, 6), (8, 8), (9, 8), (19, 15)]
)
def test_the_fewest_wins_that_decide(untied: int, wins: int | None) -> None:
    assert wins_needed(untied) == wins


def test_an_end_that_is_not_nothing_is_not_printed_as_nothing() -> None:
    part = Comparison(
        "loss", "difference", "val_loss", "a", "b", "below", 0.0, 0.1, "nats", (), 1.0, False
    )
    other = dict.fromkeys(range(5), 0.0)
    small = dict(enumerate((-0.005, -0.006, -0.005, -0.006, -0.006)))
    assert paired(part, "loss", small, other).in_short == "loss: -0.006 [-0.006, -0.005] nats"
    large = {seed: 100 * value for seed, value in small.items()}
    assert paired(part, "loss", large, other).in_short == "loss: -0.56 [-0.63, -0.49] nats"
    assert paired(part, "loss", other, other).in_short == "loss: +0.00 [+0.00, +0.00] nats"


def test_every_open_finding_says_what_it_would_have_taken(repository: Path) -> None:
    results = results_of(read_runs([repository / "results/published"]))
    brief = [silent for result in results if (silent := _silent(result, result.finding.in_short))]
    full = [silent for result in results if (silent := _silent(result, result.finding.evidence))]
    assert brief == full == []


def _silent(result: Result, text: str) -> str:
    """The text of an open finding that does not."""
    reasons = ("would have shown", "would have decided", "needed", "is not trained", "no runs of")
    told = result.verdict != INCONCLUSIVE or any(reason in text for reason in reasons)
    return "" if told else text
