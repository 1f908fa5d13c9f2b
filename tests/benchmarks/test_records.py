"""Every benchmark, once, at a tiny shape: its JSON is complete, and goals find their values."""

import json
from collections.abc import Callable
from contextlib import redirect_stdout
from functools import cache
from io import StringIO
from typing import Any

import pytest

from benchmarks import BENCHMARKS, command
from benchmarks.goals import GOALS
from benchmarks.toy_sizes import TOY

Measured = Callable[[str], tuple[dict[str, Any], str]]


@pytest.fixture(scope="module")
def measured(tmp_path_factory: pytest.TempPathFactory) -> Measured:
    """A benchmark's JSON and output, by name; measured on first use."""

    @cache
    def measure(name: str) -> tuple[dict[str, Any], str]:
        out = tmp_path_factory.mktemp("results") / "made" / f"{name}.json"
        with redirect_stdout(StringIO()) as printed:
            command.run(name, out=out, rounds=1, shape=json.dumps(TOY[name]))
        return json.loads(out.read_text()), printed.getvalue()

    return measure


@pytest.mark.parametrize("name", BENCHMARKS)
def test_a_record_is_complete(name: str, measured: Measured) -> None:
    result, printed = measured(name)
    assert result["benchmark"] == name
    assert TOY[name].items() <= result["shape"].items()
    environment = result["environment"]
    assert {"git", "packages", "python", "cpu", "torch"} <= environment.keys()
    assert "host" not in environment
    assert result["parts"]
    for title, part in result["parts"].items():
        assert title in printed
        repetitions = 10 if title == "ceiling" else 1
        assert {len(times) for times in part["seconds"].values()} <= {repetitions}
        assert part["ratios"].keys() == part["seconds"].keys()
        assert all(of.keys() == part["seconds"].keys() for of in part["ratios"].values())
        assert part["base"] in (part["seconds"] or part["figures"])


def test_every_goal_finds_its_figure(measured: Measured) -> None:
    """On a CPU; only figures of a GPU are missing."""
    figures = {goal.sentence: goal.figure(measured(goal.benchmark)[0]) for goal in GOALS}
    absent = [sentence for sentence, figure in figures.items() if figure is None]
    assert [sentence.split()[0] for sentence in absent] == ["peak", "peak"]
    share = figures["the harness's share of a small run, %"]
    assert share is not None
    assert 0 < share < 100
