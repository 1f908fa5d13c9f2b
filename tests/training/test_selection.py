"""The choice of a learning rate, on invented results of select runs."""

from dataclasses import dataclass, replace
from typing import Any

import pytest

from experiments.harness.spec import RunSpec
from experiments.training.selection import Selection, chosen_rate, select_runs, with_select_runs
from zia_core.errors import ZiaError

FIELDS = {"val_loss": float, "accuracy": float}
RATES = (0.01, 0.1, 1.0)


@dataclass(frozen=True)
class Settings(Selection):
    width: int = 1


def spec(seed: int = 1, **changes: Any) -> RunSpec:
    given = {"candidates": RATES, "selection_seed": 9, "epochs": 4.0, "warmup_epochs": 1.0}
    return RunSpec(
        "toy", 1, "task", "method", "model", "data", "mini", seed,
        replace(Settings(), **given | changes),
    )  # fmt: skip


class Results:
    """What `chosen_rate` asks a run's folder for: the values of the select runs, in order."""

    def __init__(self, *values: float | None) -> None:
        self.values = dict(zip(RATES, values, strict=True))

    def result_of(self, spec: RunSpec, fields: Any) -> dict[str, float] | None:
        assert fields is FIELDS
        value = self.values[spec.settings.peak_lr]
        return None if value is None else {"val_loss": value}


def choice(values: tuple[float | None, ...], of: RunSpec | None = None) -> Any:
    folder: Any = Results(*values)
    return chosen_rate(of or spec(), folder, FIELDS)


def test_one_short_run_a_candidate_with_another_seed_and_the_same_share_of_warm_up() -> None:
    runs = select_runs(spec(selection_epochs=2.0), width=3)
    assert [run.settings.peak_lr for run in runs] == list(RATES)
    for run in runs:
        settings = run.settings
        assert (run.seed, settings.phase, settings.width) == (9, "select", 3)
        assert (settings.epochs, settings.warmup_epochs) == (2.0, 0.5)
        assert not select_runs(run)
    assert not select_runs(spec(peak_lr=0.5))


def test_a_plan_reports_first_and_tries_every_candidate_once() -> None:
    finals = [spec(seed) for seed in range(3)]
    plan = with_select_runs(finals)
    assert plan[:3] == finals
    assert plan[3:] == select_runs(finals[0])


@pytest.mark.parametrize(
    ("values", "rate"),
    [
        ((3.0, 1.0, 2.0), 0.1),
        ((2.0, 1.0, 1.0), 0.1),  # of equals the first
        ((None, 5.0, None), 0.1),  # what diverged loses
    ],
)
def test_the_best_on_held_out_data_wins(values: tuple[float | None, ...], rate: float) -> None:
    made = choice(values)
    assert made.as_result() == {
        "peak_lr": rate,
        "candidates": 3,
        "tried": [
            {"peak_lr": tried, "val_loss": value}
            for tried, value in zip(RATES, values, strict=True)
        ],
    }


def test_a_rate_that_is_given_was_not_chosen() -> None:
    made = choice((1.0, 2.0, 3.0), spec(peak_lr=0.5))
    assert made.as_result() == {"peak_lr": 0.5, "candidates": 0, "tried": []}


def test_nothing_to_choose_from() -> None:
    with pytest.raises(ZiaError, match="no learning rate: set peak_lr, or candidates to choose"):
        choice((1.0, 2.0, 3.0), spec(candidates=()))
    with pytest.raises(ZiaError, match=r"every candidate of method on task diverged: set .* lower"):
        choice((None, None, None))
