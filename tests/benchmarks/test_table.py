"""The README of the benchmarks is what the stored results say, and goals are judged by them."""

import json
from pathlib import Path

import pytest

from benchmarks import BENCHMARKS, command, table
from benchmarks.goals import GOALS, Goal
from experiments.harness.cli import main
from tests.benchmarks.shapes import TINY
from zia_core.errors import ZiaError


def test_the_readme_is_current(repository: Path) -> None:
    folder = repository / "benchmarks"
    text = (folder / "README.md").read_text()
    assert table.filled(text, folder / "results") == text, "run `python -m benchmarks.table`"


def test_blocks_are_filled_where_there_is_a_result(repository: Path, tmp_path: Path) -> None:
    text = (repository / "benchmarks" / "README.md").read_text()
    nothing = table.filled(text, tmp_path)
    assert nothing.count("CPU: not measured.") == nothing.count("GPU: not measured.") == 8
    assert nothing.count("| not measured | not measured |") == len(GOALS)
    shape = json.dumps(TINY["train_step"])
    command.run("train_step", out=tmp_path / "train_step-cuda.json", rounds=1, shape=shape)
    filled = table.filled(nothing, tmp_path)
    assert filled.count("GPU: not measured.") == 7
    assert "| AdaptionPrompt (PEFT) | 194 |" in filled
    # Of the five goals of a step, the peak on a GPU is none of these results' figures.
    assert filled.count("| not measured | not measured |") == len(GOALS) - 4
    assert table.filled(filled, tmp_path) == filled
    assert table.filled(filled, tmp_path / "none") == nothing


def test_a_readme_without_a_block_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match="one block from <!-- goals -->"):
        table.filled("# Benchmarks\n", tmp_path)


def test_verdicts() -> None:
    most = Goal("b", "s", lambda result: result["x"], at_most=2.0)
    least = Goal("b", "s", lambda result: result["x"], at_least=2.0)
    assert most.verdict({"x": 2.0}) == "2: met"
    assert most.verdict({"x": 2.5}) == "2.5: missed by 25.0%"
    assert least.verdict({"x": 2.5}) == "2.5: met"
    assert least.verdict({"x": 1.5}) == "1.5: missed by 25.0%"
    assert least.verdict({"x": None}) == least.verdict(None) == "not measured"


def test_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["zia", "bench"])
    with pytest.raises(SystemExit):
        main()
    listed = capsys.readouterr().out
    assert [line.split()[0] for line in listed.splitlines()] == list(BENCHMARKS)
    out = tmp_path / "result.json"
    arguments = ["--rounds", "1", "--shape", json.dumps(TINY["trunk_reuse"]), "--out", str(out)]
    monkeypatch.setattr("sys.argv", ["zia", "bench", "trunk_reuse", *arguments])
    with pytest.raises(SystemExit):
        main()
    assert json.loads(out.read_text())["shape"]["width"] == 32
    assert "1 of 3 layers adapted" in capsys.readouterr().out
