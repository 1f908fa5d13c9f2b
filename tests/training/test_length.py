"""The rule for the length of training, on invented results of trial runs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any

import pytest

from experiments.harness.spec import RunSpec
from experiments.training.length import LONGEST, SEEDS, ResultOf, Trials
from experiments.training.recipe import Recipe
from experiments.training.selection import Selection


@dataclass(frozen=True)
class Settings(Selection):
    split: str = "test"


RECIPE = Recipe(
    "toy", 1, "mini", "model", "data",
    Settings(candidates=(1.0, 2.0), selection_seed=7, selection_epochs=0.5),
    {"zero-init": {}, "lora": {}},
)  # fmt: skip
TRIALS = Trials(
    RECIPE, ("one", "other"), "score", "higher",
    {"zero-init": {0.3: 8, 0.1: 8}, "lora": {0.01: 8}}, (1, 2, 4, 8), {"split": "val"},
)  # fmt: skip
SPREAD = {SEEDS[0]: -1.0, SEEDS[1]: 0.0, SEEDS[2]: 1.0}  # a standard error of 0.577


def results(score: Callable[[RunSpec], float | None], last: float = 0.5) -> ResultOf:
    """Results with that score, give or take the seed's share, and a loss that ends at `last`."""

    def result_of(spec: RunSpec) -> Mapping[str, Any] | None:
        value = score(spec)
        if value is None:
            return None
        value += SPREAD[spec.seed]
        return {"score": value, "train_loss_first": 1.0, "train_loss_last": last}

    return result_of


def saturating(spec: RunSpec) -> float:
    """LoRA is done at 2 epochs, zero-init at 4."""
    return 10.0 * min(spec.settings.epochs, 2.0 if spec.method == "lora" else 4.0)


def test_trials_are_of_every_length_rate_task_and_seed_and_score_what_is_held_out() -> None:
    specs = list(TRIALS.runs())
    assert len({spec.identity for spec in specs}) == len(specs) == 4 * 3 * 2 * 3
    assert [spec.settings.epochs for spec in specs] == sorted(s.settings.epochs for s in specs)
    for spec in specs:
        assert spec.settings.phase == "select"
        assert spec.settings.split == "val"
        assert spec.settings.warmup_epochs == spec.settings.epochs / 10
        assert spec.seed in SEEDS


def test_other_candidates_and_epochs_of_the_plan_leave_the_trials_as_they_are() -> None:
    changed = replace(RECIPE.settings, candidates=(5.0,), selection_seed=8, epochs=3.0)
    other = replace(TRIALS, recipe=replace(RECIPE, settings=changed))
    assert list(other.runs()) == list(TRIALS.runs())


def test_the_shortest_length_whose_doubling_improves_neither_method() -> None:
    assert TRIALS.shortest(results(saturating)) == 4
    only_lora = replace(TRIALS, rates={"lora": {0.01: 8}})
    assert only_lora.shortest(results(saturating)) == 2


def test_a_method_that_still_improves_has_no_length() -> None:
    assert TRIALS.shortest(results(lambda spec: 10.0 * spec.settings.epochs)) is None


@pytest.mark.parametrize(("step", "length"), [(0.57, 1), (0.58, None)])
def test_an_improvement_counts_from_one_standard_error_of_the_mean(
    step: float, length: int | None
) -> None:
    """Scores of -1, 0 and 1 have a standard error of 1 / sqrt(3) = 0.577."""
    steps = {1.0: 0, 2.0: 1, 4.0: 2, 8.0: 3}
    assert TRIALS.shortest(results(lambda spec: step * steps[spec.settings.epochs])) == length


def test_getting_worse_is_no_reason_to_train_longer() -> None:
    falling = results(lambda spec: -10.0 * spec.settings.epochs)
    assert TRIALS.shortest(falling) == 1
    assert replace(TRIALS, better="lower").shortest(falling) is None


def test_a_plateau_at_the_beginning_is_not_enough() -> None:
    """The loss has not fallen by a fifth."""
    assert TRIALS.shortest(results(lambda spec: 0.0, last=0.8)) == 1
    assert TRIALS.shortest(results(lambda spec: 0.0, last=0.81)) is None


def test_each_length_counts_with_its_better_rate() -> None:
    """At 0.3 zero-init is better at first and then diverges; at 0.1 it goes on improving."""

    def score(spec: RunSpec) -> float | None:
        if spec.method == "lora":
            return 0.0
        if spec.settings.peak_lr == 0.3:
            return 5.0 if spec.settings.epochs < 4 else None
        return 3.0 * min(spec.settings.epochs, 4.0)

    found = results(score)
    assert TRIALS.level("zero-init", 1, found).rate == 0.3
    assert TRIALS.level("zero-init", 4, found).rate == 0.1
    assert TRIALS.level("zero-init", 2, found).mean == 6.0
    assert TRIALS.shortest(found) == 4


def test_a_rate_that_fell_behind_is_not_tried_further() -> None:
    dropped = replace(TRIALS, rates={"zero-init": {0.3: 2, 0.1: 8}, "lora": {0.01: 8}})
    tried = {(s.settings.epochs, s.settings.peak_lr) for s in dropped.runs() if s.method != "lora"}
    assert tried == {(1.0, 0.3), (2.0, 0.3), (1.0, 0.1), (2.0, 0.1), (4.0, 0.1), (8.0, 0.1)}
    found = results(lambda spec: 10.0 * spec.settings.peak_lr)
    assert [dropped.level("zero-init", each, found).rate for each in (2, 4)] == [0.3, 0.1]


def test_where_no_length_is_enough_it_is_the_longest_that_the_first_stage_holds() -> None:
    assert TRIALS.length(results(saturating)) == 4
    rising = results(lambda spec: 10.0 * spec.settings.epochs)
    assert TRIALS.length(rising) == LONGEST == 8
    longer = replace(TRIALS, rates={"lora": {0.01: 32}}, lengths=(8, 16, 32))
    assert longer.shortest(results(lambda spec: min(spec.settings.epochs, 16.0))) == 16
    assert longer.length(results(lambda spec: min(spec.settings.epochs, 16.0))) == LONGEST


def test_scores_are_means_over_the_tasks_seed_by_seed() -> None:
    found = results(lambda spec: 4.0 if spec.task == "one" else 0.0)
    level = TRIALS.level("lora", 1, found)
    assert (level.mean, level.variance) == (2.0, 1.0)
