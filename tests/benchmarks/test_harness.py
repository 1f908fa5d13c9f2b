"""The published runs that the harness's overhead is compared with."""

import json
from pathlib import Path

import pytest

from benchmarks import goals, harness
from experiments.harness import archive, stored
from zia_core.errors import ZiaError


def run(profile: str, backbone: str, steps: int, seconds: float) -> dict[str, bytes]:
    config = {
        "experiment": "alpaca_llama",
        "version": 1,
        "task": "instruct",
        "method": "zero-init",
        "backbone": backbone,
        "data": "generated",
        "profile": profile,
        "seed": 0,
        "settings": {},
    }
    result = {"steps": steps, "train_seconds": seconds}
    return {
        stored.CONFIG: json.dumps(config).encode(),
        stored.RESULT: json.dumps(result).encode(),
    }


def test_each_profile_and_backbone_gives_its_shortest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "PUBLISHED", tmp_path)
    with pytest.raises(ZiaError, match="has no run alpaca_llama/zero-init-instruct-"):
        harness._published_runs()
    runs = {
        "zero-init-instruct-a-mini-s0": run("mini", "pocket", 3, 6.0),
        "zero-init-instruct-a-mini-s1": run("mini", "pocket", 3, 5.0),
        "zero-init-lm-a-mini-s0": run("mini", "pocket", 1, 0.1),
        "lora-instruct-a-mini-s0": run("mini", "pocket", 1, 0.1),
    }
    archive.write(tmp_path / "alpaca_llama-mini.zip", "alpaca_llama", "mini", runs)
    runs = {"zero-init-instruct-b-small-s0": run("small", "smol", 2, 100.0)}
    archive.write(tmp_path / "alpaca_llama-small.zip", "alpaca_llama", "small", runs)
    assert harness._published_runs()["figures"] == {
        "mini: zero-init on pocket": {"steps": 3, "training seconds": 5.0},
        "small: zero-init on smol": {"steps": 2, "training seconds": 100.0},
    }


def test_the_share_is_the_largest_of_all_published_runs() -> None:
    """0.2 s per run and 1 ms per step are 5 % of 50 steps in 5 s, and 0.4 % of 200 in 100 s."""
    published = {
        "short": {"steps": 50, "training seconds": 5.0},
        "long": {"steps": 200, "training seconds": 100.0},
    }
    result = {
        "shape": {"steps": 1000},
        "parts": {
            "a run": {"seconds": {harness.EMPTY: [0.2], "with steps": [1.2]}},
            harness.PUBLISHED_RUNS: {"figures": published},
        },
    }
    assert goals._share_of_a_small_run(result) == pytest.approx(5.0)
