"""The plan of runs."""

from dataclasses import asdict
from itertools import pairwise

import pytest

from experiments.alpaca_llama import plan as planning


def test_methods_of_mini_differ_in_what_they_are_and_in_their_rates_alone() -> None:
    own = {name for changes in planning.MINI_METHODS.values() for name in changes}
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


def test_identities_of_other_profiles_do_not_move() -> None:
    """A new setting must keep them: its default is the old behaviour."""
    assert planning.plan("paper", "cuda")[0].identity == "5d7507b3b7c0ed29"
    assert not any(planning.requires(spec) for spec in planning.plan("small", "cuda"))


def test_methods_of_small_on_a_cpu_choose_from_as_many_rates() -> None:
    finals = [s for s in planning.plan("small", "cpu") if s.settings.phase == "final"]
    for spec in (s for s in finals if s.method != "frozen"):
        rates = spec.settings.candidates
        assert len(rates) == 4
        assert all(2.9 < high / low < 3.4 for low, high in pairwise(rates)), spec.method
        assert [s.settings.peak_lr for s in planning.requires(spec)] == list(rates)
        assert {s.settings.validate_on for s in planning.requires(spec)} == {"development"}
