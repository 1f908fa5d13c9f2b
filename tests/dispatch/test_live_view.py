"""The overview of the runs that workers are doing."""

import json
from pathlib import Path

import pytest

from experiments.dispatch import live_view
from experiments.dispatch.live_view import Overview
from experiments.harness import stored


def test_the_eta_starts_from_the_plan_and_follows_what_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    now, states = [0.0], dict.fromkeys(("a", "b", "c", "d"), "running")
    monkeypatch.setattr(live_view.time, "monotonic", lambda: now[0])
    monkeypatch.setattr(stored, "current_state", lambda folder: states[folder.name])
    for name in states:
        (tmp_path / name).mkdir()
    overview = Overview(list(states), tmp_path, dict.fromkeys(states, 600.0), workers=2)
    assert overview.eta() is None  # nothing has been looked at
    overview.update()
    assert (overview.eta(), str(overview)) == (1200, "4 running; ETA 0:20:00")
    # Half of it is done in half of the time that was expected: the rest is believed to be as fast.
    now[0], states["a"], states["b"] = 300.0, "done", "done"
    overview.update()
    eta = overview.eta()
    assert eta is not None
    assert 300 < eta < 400
    states["c"] = "failed"  # of which nothing is to be expected any more
    overview.update()
    assert overview.eta() == pytest.approx(eta / 2, rel=0.5)
    states["d"] = "done"
    overview.update()
    assert str(overview) == "3 done, 1 failed"


def test_without_costs_there_is_no_eta(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "status.json").write_text(json.dumps({}))
    overview = Overview(["a", "b"], tmp_path)
    overview.update()
    assert (overview.eta(), str(overview)) == (None, "1 corrupt, 1 missing")
