"""The plan of runs."""

from collections import Counter
from dataclasses import asdict
from itertools import product

import pytest

from experiments.backbones import language_models
from experiments.harness.plan import choose
from experiments.squad_roberta import plan
from experiments.squad_roberta.settings import Settings
from experiments.training.selection import select_runs


@pytest.mark.parametrize("profile", plan.PROFILES)
@pytest.mark.parametrize("device", ["cpu", "cuda"])
def test_every_run_is_another_and_of_a_known_encoder(profile: str, device: str) -> None:
    specs = plan.plan(profile, device)
    assert len({spec.identity for spec in specs}) == len(specs)
    assert {spec.backbone for spec in specs} <= language_models.BACKBONES.keys()
    planned = {spec.identity for spec in specs}
    assert all(needed.identity in planned for spec in specs for needed in plan.requires(spec))
    assert specs


def test_the_paper_s_runs_are_p_tuning_v2_s() -> None:
    specs = plan.plan("paper", "cuda")
    assert Counter((spec.task, spec.method) for spec in specs) == {
        (task, method): 5 if method in ("zero-init", "p-tuning-v2") else 3
        for task in (plan.V1, plan.V2)
        for method in plan.METHODS
    }
    for task, length, epochs in ((plan.V1, 16, 30.0), (plan.V2, 8, 10.0)):
        for method in ("zero-init", "p-tuning-v2"):
            spec = next(s for s in specs if (s.task, s.method) == (task, method))
            settings = spec.settings
            assert (settings.prompt_length, settings.epochs) == (length, epochs)
            assert (settings.batch_size, settings.peak_lr) == (8, 5e-3)
            assert settings.prefix_dropout == settings.hidden_dropout == 0.2
    assert {spec.backbone for spec in specs} == {"roberta-large"}
    assert not any(select_runs(spec) for spec in specs)


def test_every_method_chooses_from_as_many_rates_on_the_same_schedule() -> None:
    specs = plan.plan("small", "cpu")
    finals = [spec for spec in specs if spec.settings.phase == "final"]
    methods = {"zero-init", "p-tuning-v2", "lora", "full"}
    assert {(spec.method, spec.seed) for spec in finals} == set(product(methods, range(5)))
    assert {spec.task for spec in finals} == {plan.V1}
    assert {len(set(spec.settings.candidates)) for spec in finals} == {4}
    rates = ("peak_lr", "candidates")
    for phase in ("select", "final"):
        shared = {
            tuple((k, v) for k, v in asdict(spec.settings).items() if k not in rates)
            for spec in specs
            if spec.settings.phase == phase
        }
        assert len(shared) == 1
    selects = [spec for spec in specs if spec not in finals]
    assert len(selects) == 4 * len(methods)
    assert {spec.seed for spec in selects} == {100}
    assert {spec.settings.epochs for spec in selects} == {finals[0].settings.epochs / 2}


def test_all_seeds_share_the_choice_and_another_setting_makes_another() -> None:
    first, second = (
        choose("squad_roberta", "small", "cpu", method="zero-init", seed=seed, settings={})
        for seed in (0, 1)
    )
    assert first.settings.phase == "final"
    assert select_runs(first) == select_runs(second)
    longer = first.with_settings({"prompt_length": "20"})
    assert {spec.settings.prompt_length for spec in select_runs(longer)} == {20}
    tried = select_runs(first)[0].settings
    share = tried.warmup_epochs / tried.epochs
    assert share == pytest.approx(first.settings.warmup_epochs / first.settings.epochs)
    assert tried.epochs == first.settings.selection_epochs < first.settings.epochs


def test_identities_do_not_move() -> None:
    """A new setting must keep them: its default is the old behaviour."""
    spec = plan.plan("paper", "cuda")[0]
    assert (spec.method, spec.seed) == ("full", 0)
    assert spec.identity == "3e6240b3da1ee5c5"
    assert Settings().peak_lr == 5e-3
