"""Fairness of the runs of `mini`: how many rates each method chooses from, and on what."""

from collections import defaultdict

import pytest

from experiments.coco_caption.experiment import EXPERIMENT as COCO_CAPTION
from experiments.harness.experiment import Experiment
from experiments.harness.spec import RunSpec
from experiments.scienceqa import plan as scienceqa
from experiments.scienceqa.experiment import EXPERIMENT as SCIENCEQA

PLANNED = (SCIENCEQA, COCO_CAPTION)


def by_method(specs: list[RunSpec]) -> dict[tuple[str, str], list[RunSpec]]:
    found = defaultdict(list)
    for spec in specs:
        found[spec.task, spec.method].append(spec)
    return found


@pytest.mark.parametrize("experiment", PLANNED, ids=lambda each: str(each.name))
def test_every_method_has_as_many_candidates_and_none_is_tested(experiment: Experiment) -> None:
    plan = experiment.plan("mini", "cpu")
    assert plan == experiment.plan("mini", "cuda")
    finals = [spec for spec in plan if spec.settings.phase == "final"]
    tried = [spec for spec in plan if spec.settings.phase == "select"]
    seeds = {spec.seed for spec in finals}
    for (_, method), specs in by_method(finals).items():
        for spec in specs:
            needed = experiment.requires(spec)
            assert len(needed) == (0 if method == "frozen" else 3), method
            assert all(each in tried for each in needed)
            assert {each.method for each in needed} <= {method}
            assert len({each.settings.peak_lr for each in needed}) == len(needed)
    assert {spec.settings.evaluated_on for spec in tried} == {"val"}
    assert not seeds & {spec.seed for spec in tried}


@pytest.mark.parametrize(
    ("experiment", "claimed"),
    [
        (SCIENCEQA, {"zero-init", "zero-init-text", "random-init", "lora"}),
        (COCO_CAPTION, {"zero-init", "zero-init-text"}),
    ],
    ids=lambda each: getattr(each, "name", ""),
)
def test_claims_have_five_seeds_and_other_methods_three(
    experiment: Experiment, claimed: set[str]
) -> None:
    plan = experiment.plan("mini", "cpu")
    finals = [s for s in plan if s.settings.phase == "final" and s.task != scienceqa.ABLATION]
    counts = {method: len(specs) for (_, method), specs in by_method(finals).items()}
    assert {method for method, n in counts.items() if n == 5} == claimed
    assert {n for method, n in counts.items() if method not in claimed} <= {1, 3}
    assert [method for method, n in counts.items() if n == 1] in ([], ["frozen"])


def test_an_ablation_has_the_rate_of_its_method_in_the_main_table() -> None:
    plan = SCIENCEQA.plan("mini", "cpu")
    main = next(s for s in plan if (s.task, s.method) == (scienceqa.TASK, "zero-init"))
    ablations = [s for s in plan if (s.task, s.method) == (scienceqa.ABLATION, "zero-init")]
    assert {(s.settings.num_layers, s.settings.epochs) for s in ablations} == {
        (2, 1.0), (4, 1.0), (5, 1.0), (6, 1.0), (5, 0.5), (5, 2.0),
    }  # fmt: skip
    for spec in ablations:
        assert scienceqa.requires(spec) == scienceqa.requires(main)
        assert spec.settings.evaluated_on == "val"


@pytest.mark.parametrize("experiment", PLANNED, ids=lambda each: str(each.name))
def test_what_all_runs_cost_is_known(experiment: Experiment) -> None:
    hours = [experiment.estimate(spec).hours for spec in experiment.plan("mini", "cpu")]
    seconds = 3600 * sum(filter(None, hours))
    print(f"{experiment.name}: {len(hours)} runs, {seconds:.0f} s of a core")
    assert all(hours)


def test_the_papers_layers_are_different_ones_of_six() -> None:
    assert [scienceqa.scaled(each, 6) for each in scienceqa.ABLATED_LAYERS] == [2, 4, 5, 6]
    assert [scienceqa.scaled(each, 30) for each in scienceqa.ABLATED_LAYERS] == [9, 19, 28, 30]
    assert [scienceqa.scaled(each, 32) for each in scienceqa.ABLATED_LAYERS] == [10, 20, 30, 32]
