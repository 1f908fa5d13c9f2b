"""The plan of runs."""

from collections import Counter
from dataclasses import asdict

import pytest

from experiments.alpaca_llama import plan as planning
from experiments.alpaca_llama.estimate import estimate
from experiments.backbones import language_models


def test_mini_has_five_seeds_of_what_claims_compare() -> None:
    finals = [s for s in planning.plan("mini", "cpu") if s.settings.phase == "final"]
    assert Counter(spec.method for spec in finals) == {
        "zero-init": 5, "random-init": 5, "random-init-gate": 5, "lora": 5, "full": 1, "frozen": 1,
    }  # fmt: skip
    assert {(s.backbone, s.data, s.task) for s in finals} == {
        ("pocket-llama", "mini", planning.TASK)
    }
    # All but the lowest layer.
    assert {s.settings.num_layers for s in finals} == {
        language_models.get("pocket-llama").layers - 1
    }
    assert {spec.settings.validate_on for spec in finals} == {"validation"}
    assert planning.plan("mini", "cuda") == planning.plan("mini", "cpu")


def test_every_trained_method_tries_as_many_rates_on_the_development_records() -> None:
    plan = planning.plan("mini", "cpu")
    trials = [spec for spec in plan if spec.settings.phase == "select"]
    finals = [spec for spec in plan if spec not in trials]
    assert Counter(spec.method for spec in trials) == dict.fromkeys(
        set(planning.METHODS) - {"frozen", "adaption-prompt"}, 3
    )
    assert not {spec.seed for spec in trials} & {spec.seed for spec in finals}
    for spec in trials:
        settings = spec.settings
        assert settings.validate_on == "development"
        assert (settings.answered, settings.user_oriented, settings.vicuna) == (0, False, False)
    for rates in planning.CANDIDATES.values():
        assert rates[1] / rates[0] == pytest.approx(rates[2] / rates[1], rel=0.15)
    # A final run requires what is planned, the same for all of its seeds.
    identities = {spec.identity for spec in plan}
    for spec in finals:
        needed = {each.identity for each in planning.requires(spec)}
        assert needed <= identities
        assert len(needed) == (0 if spec.method == "frozen" else 3)


def test_methods_of_mini_differ_in_what_they_are_and_in_their_rates_alone() -> None:
    own = {name for changes in planning.METHODS.values() for name in changes}
    shared = {
        tuple(
            (name, value)
            for name, value in asdict(spec.settings).items()
            if name not in own | {"peak_lr", "candidates", "epochs", "warmup_epochs"}
        )
        for spec in planning.plan("mini", "cpu")
        if spec.settings.phase == "final"
    }
    assert len(shared) == 1
    for spec in (s for s in planning.plan("mini", "cpu") if s.method != "frozen"):
        assert spec.settings.warmup_epochs == pytest.approx(spec.settings.epochs / 10)


def test_identities_of_older_profiles_do_not_move() -> None:
    """A new setting must keep them: its default is the old behaviour."""
    assert planning.plan("paper", "cuda")[0].identity == "5d7507b3b7c0ed29"
    assert not any(planning.requires(spec) for spec in planning.plan("small", "cpu"))


def test_the_runs_of_mini_fit_their_share_of_its_twelve_minutes() -> None:
    """330 seconds of a core; that this is what they take was measured, the test only adds up."""
    hours = [estimate(spec).hours or 0.0 for spec in planning.plan("mini", "cpu")]
    assert 100 < sum(hours) * 3600 < 330
