"""Turns, ratios, and what a benchmark's JSON and tables say."""

import pytest

from benchmarks import command, show
from benchmarks.measure import interleaved, part, ratios
from benchmarks.train_step import Shape
from zia_core.errors import ZiaError


def test_contestants_take_turns() -> None:
    calls: list[str] = []
    seconds = interleaved(
        {"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, rounds=2, warmup=1
    )
    assert calls == ["a", "b"] * 3
    assert [len(times) for times in seconds.values()] == [2, 2]


def test_ratios_are_within_a_round_and_of_every_pair() -> None:
    found = ratios({"a": [1.0, 4.0, 2.0], "b": [2.0, 4.0, 6.0]})
    assert found["b"]["a"] == pytest.approx({"median": 2.0, "min": 1.0, "max": 3.0})
    assert found["a"]["b"] == pytest.approx({"median": 0.5, "min": 1 / 3, "max": 1.0})
    assert found["a"]["a"] == {"median": 1.0, "min": 1.0, "max": 1.0}


def test_a_table() -> None:
    figures = {"ours": {"kept, bytes": 3 * 2**20, "steps": 1234}}
    seconds = {"base": [0.5, 0.25], "ours": [0.5, 0.5]}
    assert show.table(part(seconds, "base", figures=figures, work={"tokens": 96})).splitlines() == [
        "|  | kept, MiB | steps | median ms | tokens/s | time / base (range) |",
        "| --- | ---: | ---: | ---: | ---: | ---: |",
        "| base | - | - | 375 | 256 | 1.000 (1.000 to 1.000) |",
        "| ours | 3.0 | 1,234 | 500 | 192 | 1.500 (1.000 to 2.000) |",
    ]


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"wide": 1}', "no size 'wide'; there are: width, "),
        ('{"width": "x"}', "width must be a whole number"),
        ('{"device": "cuda"}', "finds no GPU"),
    ],
)
def test_a_wrong_shape_is_refused(shape: str, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    with pytest.raises(ZiaError, match=says):
        command.shape_of(Shape, shape)


def test_module_as_a_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.argv", ["train_step", "--shape", '{"wide": 1}'])
    with pytest.raises(SystemExit, match="train_step: --shape: there is no size 'wide'"):
        command.main("train_step")
