"""The benchmark measures what it says: the same backbone, each method's own parameters."""

import json
from pathlib import Path

import pytest
import torch

from benchmarks.measure import interleaved, ratios, table
from benchmarks.train_step import Shape, contestants, measure, step

TINY = Shape(
    width=32,
    layers=2,
    heads=4,
    kv_heads=2,
    mlp=48,
    vocabulary=64,
    tokens=12,
    prompt_length=3,
    adapted_layers=2,
)


def test_result_has_every_repetition() -> None:
    result = measure(TINY, rounds=2)
    assert {len(times) for times in result["seconds"].values()} == {2}
    assert result["ratios"]["floor"] == {"median": 1.0, "min": 1.0, "max": 1.0}
    assert result["trainable"]["zero-init"] == 2 * (3 * 32 + 4)
    assert result["trainable"]["floor"] == 32
    assert json.dumps(result)
    assert table(result).count("\n") == 2 + len(result["seconds"])


def test_every_contestant_learns() -> None:
    ids = torch.randint(0, 64, (2, 12))
    for name, model in contestants(TINY).items():
        trained = {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}
        call = step(model.train(), {"input_ids": ids, "labels": ids.clone()})
        call()
        call()
        moved = [n for n, p in model.named_parameters() if n in trained and not p.equal(trained[n])]
        assert moved, name
        frozen = [p.grad for p in model.parameters() if not p.requires_grad]
        assert all(gradient is None for gradient in frozen), name


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    seconds = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1
    )
    assert calls == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_ratios_are_within_a_round() -> None:
    found = ratios({"a": [1.0, 4.0, 2.0], "b": [2.0, 4.0, 6.0]}, "a")
    assert found["b"] == pytest.approx({"median": 2.0, "min": 1.0, "max": 3.0})


def test_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from benchmarks import train_step

    shape = json.dumps({**vars(TINY)})
    out = tmp_path / "result.json"
    monkeypatch.setattr(
        "sys.argv", ["train_step", "--rounds", "1", "--shape", shape, "--out", str(out)]
    )
    train_step.main()
    assert json.loads(out.read_text())["shape"]["width"] == 32
