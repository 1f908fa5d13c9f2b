"""Fixtures of the report's tests."""

from dataclasses import replace

import pytest

from experiments.harness import registry


@pytest.fixture
def no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """Plan nothing, so that cells do not say how many seeds are missing."""
    known = {
        name: replace(experiment, plan=lambda profile, device: [])
        for name, experiment in registry.experiments().items()
    }
    monkeypatch.setattr(registry, "experiments", lambda: known)
