"""Lengths and rates of `mini` are what the published trials and select runs say."""

from pathlib import Path

import pytest

from experiments.harness import registry
from experiments.harness.experiment import Experiment
from experiments.training.length import ResultOf, results_in
from tests.mini_world.test_plans import NAMES, RATE_IS_GIVEN, trained, trials_of

PUBLISHED = Path(__file__).parents[2] / "results/published"


@pytest.fixture(scope="module")
def result_of() -> ResultOf:
    return results_in(PUBLISHED)


@pytest.mark.parametrize("name", NAMES)
def test_the_length_is_that_of_the_rule(name: str, result_of: ResultOf) -> None:
    experiment = registry.get(name)
    length = trials_of(experiment).length(result_of)
    assert length in {spec.settings.epochs for spec in trained(experiment)}
    assert {spec.settings.epochs for spec in first_of(experiment)} == {length}


@pytest.mark.parametrize("name", NAMES)
def test_no_rate_is_chosen_at_the_edge_of_its_grid(name: str, result_of: ResultOf) -> None:
    experiment = registry.get(name)
    for spec in trained(experiment):
        if spec.method in RATE_IS_GIVEN:
            continue
        results = [result_of(each) for each in experiment.requires(spec)]
        field, sign = ("accuracy", 1) if name == "vtab_vit" else ("val_loss", -1)
        scores: dict[float, float] = {}  # summed over tasks, if there are several
        for each, result in zip(experiment.requires(spec), results, strict=True):
            score = float("-inf") if result is None else sign * result[field]
            scores[each.settings.peak_lr] = scores.get(each.settings.peak_lr, 0.0) + score
        assert min(scores) < max(scores, key=scores.__getitem__) < max(scores), spec.method


def first_of(experiment: Experiment) -> list:  # type: ignore[type-arg]
    """The runs of the main table, without the ablation of the length and partial data."""
    other = ("ablation", "own-split")
    return [spec for spec in trained(experiment) if spec.task not in other]
