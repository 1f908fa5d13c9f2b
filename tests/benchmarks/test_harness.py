"""What the harness's cost is compared with: the published runs, whichever there are."""

import json
from pathlib import Path

import pytest

from benchmarks import goals, harness
from experiments.cli.options import PUBLISHED
from experiments.harness import stored
from zia_core.errors import ZiaError


def publish(root: Path, name: str, profile: str, backbone: str, seconds: list[float]) -> None:
    folder = root / PUBLISHED / "alpaca_llama" / name
    folder.mkdir(parents=True)
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
    (folder / stored.CONFIG).write_text(json.dumps(config))
    (folder / stored.RESULT).write_text(json.dumps({"steps": len(seconds)}))
    lines = [json.dumps({"step": i, "seconds": took}) for i, took in enumerate(seconds)]
    (folder / stored.TIMING).write_text("".join(f"{line}\n" for line in lines))


def test_each_profile_and_backbone_gives_its_shortest_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(harness, "PROJECT", tmp_path)
    with pytest.raises(ZiaError, match="lacks alpaca_llama's zero-init run"):
        harness._published_runs()
    publish(tmp_path, "zero-init-instruct-a-mini-s0", "mini", "pocket", [1.0, 2.0, 3.0])
    publish(tmp_path, "zero-init-instruct-a-mini-s1", "mini", "pocket", [1.0, 1.0, 3.0])
    publish(tmp_path, "zero-init-instruct-b-small-s0", "small", "smol", [50.0, 50.0])
    publish(tmp_path, "zero-init-lm-a-mini-s0", "mini", "pocket", [0.1])
    publish(tmp_path, "lora-instruct-a-mini-s0", "mini", "pocket", [0.1])
    assert harness._published_runs()["figures"] == {
        "mini: zero-init on pocket": {"steps": 3, "training seconds": 5.0},
        "small: zero-init on smol": {"steps": 2, "training seconds": 100.0},
    }


def test_the_share_is_the_largest_of_all_published_runs() -> None:
    """0.2 s a run and 1 ms a step: in 5 s of 50 steps 5 %, in 100 s of 200 steps 0.4 %."""
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
