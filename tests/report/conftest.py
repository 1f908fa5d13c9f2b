"""What the tests of the report share."""

from dataclasses import replace

import pytest

from experiments.harness import registry


@pytest.fixture
def no_plan(monkeypatch: pytest.MonkeyPatch) -> None:
    """The experiments as they are, with nothing planned: a cell then says only what there is."""
    known = {
        name: replace(experiment, plan=lambda profile, device: [])
        for name, experiment in registry.experiments().items()
    }
    monkeypatch.setattr(registry, "experiments", lambda: known)
