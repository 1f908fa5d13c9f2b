"""What is fair about the runs of `mini`: how long each trains, at which rates, on which seeds."""

from collections import Counter, defaultdict
from importlib import import_module
from typing import Any

import pytest

from experiments.harness import registry
from experiments.harness.experiment import Experiment
from experiments.harness.spec import RunSpec
from experiments.harness.stage import Stage, is_choice
from experiments.report.claims.definition import Comparison, read_claims
from experiments.scienceqa import plan as scienceqa
from experiments.training import length
from experiments.training.length import Trials

NAMES = ("alpaca_llama", "coco_caption", "scienceqa", "squad_roberta", "vtab_vit")
SEEDS_OF_A_VERDICT = 5
DETERMINISTIC = ("frozen",)
RATE_IS_GIVEN = ("frozen", "zero-init-low-rate")  # which asks what a lower rate does
# What the first stage leaves out: follow-ups, methods that no claim compares, and the longest.
LATER = {
    "coco_caption": {("coco", method, 4) for method in ("zero-init-text", "random-init", "lora")},
    "scienceqa": {("ablation", "zero-init", 16), ("ablation", "zero-init", 32)},
    "squad_roberta": {("squad-v2.0", method, 8) for method in ("full", "p-tuning-v2", "zero-init")},
}


@pytest.fixture(params=NAMES)
def experiment(request: pytest.FixtureRequest) -> Experiment:
    return registry.get(request.param)


def trials_of(experiment: Experiment) -> Trials:
    found: Trials = import_module(f"experiments.{experiment.name}.plan").MINI_TRIALS
    return found


def planned(experiment: Experiment) -> list[RunSpec]:
    return experiment.plan("mini", "cpu")


def finals(experiment: Experiment) -> list[RunSpec]:
    return [spec for spec in planned(experiment) if not is_choice(spec)]


def trained(experiment: Experiment) -> list[RunSpec]:
    return [spec for spec in finals(experiment) if spec.settings.epochs]


def test_the_plan_is_of_a_cpu_whatever_there_is(experiment: Experiment) -> None:
    assert planned(experiment) == experiment.plan("mini", "cuda")
    assert len({spec.identity for spec in planned(experiment)}) == len(planned(experiment))
    assert {spec.settings.device for spec in planned(experiment)} == {"cpu"}


def test_every_trained_method_chooses_from_as_many_rates(experiment: Experiment) -> None:
    identities = {spec.identity for spec in planned(experiment)}
    for spec in finals(experiment):
        needed = experiment.requires(spec)
        rates = {(each.task, each.settings.peak_lr) for each in needed}
        assert len(rates) == len(needed)
        chosen_from = 0 if spec.method in RATE_IS_GIVEN else 4
        assert len({rate for _, rate in rates}) == chosen_from, spec.method
        assert {each.identity for each in needed} <= identities
        assert {each.method for each in needed} <= {spec.method}


def test_one_length_for_all_and_choices_at_least_half_as_long(experiment: Experiment) -> None:
    """In steps: a third of the questions has three times the epochs. But for the ablated length."""
    share = {"mini-images": 3}
    lengths = Counter(
        spec.settings.epochs / share.get(spec.data, 1) for spec in trained(experiment)
    )
    ((epochs, _),) = lengths.most_common(1)
    ablated = (
        {epochs * ratio for ratio in (0.5, 1, 2, 4)} if experiment.name == "scienceqa" else {epochs}
    )
    assert set(lengths) == ablated
    for spec in trained(experiment):
        assert all(each.settings.epochs >= epochs / 2 for each in experiment.requires(spec))
        warm_up = share.get(spec.data, 1) * epochs / 10
        assert spec.settings.warmup_epochs == pytest.approx(warm_up)


def test_nothing_is_chosen_with_a_seed_that_is_reported_or_on_test_data(
    experiment: Experiment,
) -> None:
    choices = [spec for spec in planned(experiment) if is_choice(spec)]
    assert not {spec.seed for spec in choices} & {spec.seed for spec in finals(experiment)}
    for spec in choices:
        settings = vars(spec.settings)
        assert settings["phase"] == "select"
        assert settings.get("evaluated_on", "val") == "val"
        assert settings.get("validate_on", "development") == "development"


def test_every_claim_has_five_seeds_of_what_it_compares(experiment: Experiment) -> None:
    counts: dict[tuple[str, str, Any, Any], set[int]] = defaultdict(set)
    for spec in finals(experiment):
        settings = vars(spec.settings)
        counts[spec.task, spec.method, settings.get("num_layers"), settings["epochs"]].add(
            spec.seed
        )
    tasks = {spec.task for spec in finals(experiment)}
    for claim in read_claims():
        if claim.experiment != experiment.name:
            continue
        for part in (*claim.parts, *([claim.cause.part] if claim.cause else [])):
            assert isinstance(part, Comparison)
            of = tasks if any(task.startswith("@") for task in part.tasks) else set(part.tasks)
            for line in (part.ours, part.other):
                method = line.split(" beside ")[0].split(",")[0]
                found = {k: v for k, v in counts.items() if k[0] in of and k[1] == method}
                if part.kind == "equal" or method in DETERMINISTIC:
                    continue
                assert all(len(seeds) >= SEEDS_OF_A_VERDICT for seeds in found.values()), line
                # Of our own split there are no runs; the ablations have the main table's.
                assert found or part.tasks[0] in (scienceqa.OWN, scienceqa.ABLATION), line


def test_the_first_stage_has_one_run_of_every_kind(experiment: Experiment) -> None:
    """But of follow-ups, which only test causes, and of what would take long."""
    stage = [spec for spec in Stage("first").of(planned(experiment)) if not is_choice(spec)]
    done = Counter((s.task, s.method, s.settings.epochs, str(s.settings)) for s in stage)
    kinds = {(s.task, s.method, s.settings.epochs, str(s.settings)) for s in finals(experiment)}
    assert done == dict.fromkeys(done, 1)
    assert {(task, method, epochs) for task, method, epochs, _ in kinds - set(done)} == {
        *(kind[:3] for kind in kinds if kind[1] in experiment.follow_ups),
        *LATER.get(experiment.name, ()),
    }


def test_the_first_stage_has_a_part_of_every_claim_that_mini_has(experiment: Experiment) -> None:
    def of(specs: list[RunSpec]) -> set[tuple[str, str]]:
        return {(spec.task, spec.method) for spec in specs}

    stage, everything = of(Stage("first").of(planned(experiment))), of(finals(experiment))
    for claim in (claim for claim in read_claims() if claim.experiment == experiment.name):
        part = claim.parts[0]
        assert isinstance(part, Comparison)
        group = any(task.startswith("@") for task in part.tasks)
        for task in {task for task, _ in everything} if group else part.tasks:
            for line in (part.ours, part.other):
                kind = (task, line.split(" beside ")[0].split(",")[0])
                assert kind in stage or (kind not in everything and not group), claim.title


def test_trials_are_planned_and_as_long_as_the_rule_needs(experiment: Experiment) -> None:
    trials = trials_of(experiment)
    identities = {spec.identity for spec in planned(experiment)}
    assert {spec.identity for spec in trials.runs()} <= identities
    assert {spec.seed for spec in trials.runs()} == set(length.SEEDS)
    assert set(trials.rates) == {"zero-init", "lora"}
    for shorter, longer in zip(trials.lengths, trials.lengths[1:], strict=False):
        assert longer == 2 * shorter
    free = {"phase", "peak_lr", "weight_decay", "epochs", "warmup_epochs", "candidates"}
    free |= {"evaluated_on", "validate_on", "answered", "also_validated"}
    for spec in trained(experiment):  # but for these, a trial is a run that is reported
        for trial in trials.runs():
            if (trial.task, trial.method) == (spec.task, spec.method):
                settings = vars(trial.settings)
                different = {n for n, value in vars(spec.settings).items() if settings[n] != value}
                assert all(name in free or name.startswith("selection") for name in different)


def test_an_ablation_has_the_rate_of_its_method_in_the_main_table() -> None:
    plan = planned(registry.get("scienceqa"))
    main = next(s for s in plan if (s.task, s.method) == (scienceqa.TASK, "zero-init"))
    epochs = main.settings.epochs
    ablations = [s for s in plan if s.task == scienceqa.ABLATION]
    # With 5 layers and the usual epochs it is the run of the main table, as random-init is.
    assert main.settings.also_validated
    assert {(s.method, s.settings.num_layers, s.settings.epochs) for s in ablations} == {
        ("zero-init", layers, epochs) for layers in (2, 4, 6)
    } | {("zero-init", 5, ratio * epochs) for ratio in (0.5, 2, 4)}
    for spec in ablations:
        assert scienceqa.requires(spec) == scienceqa.requires(main)
        assert spec.settings.evaluated_on == "val"


def test_what_all_runs_cost_is_known(experiment: Experiment) -> None:
    hours = [experiment.estimate(spec).hours for spec in planned(experiment)]
    print(
        f"{experiment.name}: {len(hours)} runs, {3600 * sum(filter(None, hours)):.0f} s of a core"
    )
    assert all(hours)


def test_the_papers_layers_are_different_ones_of_six() -> None:
    assert [scienceqa.scaled(each, 6) for each in scienceqa.ABLATED_LAYERS] == [2, 4, 5, 6]
    assert [scienceqa.scaled(each, 30) for each in scienceqa.ABLATED_LAYERS] == [9, 19, 28, 30]
    assert [scienceqa.scaled(each, 32) for each in scienceqa.ABLATED_LAYERS] == [10, 20, 30, 32]
