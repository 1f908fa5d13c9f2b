"""Interleaving, ratios, and a benchmark's JSON and tables."""

from dataclasses import asdict
from pathlib import Path

import pytest

from benchmarks import command, encoders, show, trunk_reuse
from benchmarks.measure import interleaved, part, ratios
from benchmarks.train_step import Shape
from experiments.io import terminal
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
        "|  | kept, MiB | steps | median ms | tokens/s | time / base | range |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
        "| base | - | - | 375 | 256 | 1.000 | 1.000-1.000 |",
        "| ours | 3.0 | 1,234 | 500 | 192 | 1.500 | 1.000-2.000 |",
    ]


def test_a_table_in_a_terminal_of_80_columns(capsys: pytest.CaptureFixture[str]) -> None:
    """For the widest table, headings and names wrap, but numbers do not."""
    name = "AdaptionPrompt of two lines (PEFT)"
    figures = {name: {"trained parameters": 1_234_567, "kept for backward, bytes": 2**34}}
    seconds = {"floor": [100.0, 200.0], name: [500.0, 1000.0]}
    shown = show.drawing(part(seconds, "floor", figures=figures, work={"tokens": 96}))
    terminal.console().print(shown, width=80)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines()]
    assert max(map(len, lines)) <= 80
    text = " ".join(" ".join(lines).split())
    for word in ("AdaptionPrompt", "1,234,567", "16,384.0", "750,000", "5.000-5.000"):
        assert word in text
    assert "…" not in text


def test_where_it_was_measured() -> None:
    found = {
        "torch": {"version": "2.9.0", "threads": 1, "gpus": ["H100"]},
        "cpu": {"model": "a CPU"},
        "git": {"sha": "0123456789", "dirty": True},
    }
    result = {"benchmark": "train_step", "shape": asdict(Shape()), "environment": found}
    assert show.where(result) == "On 1 thread of a CPU, torch 2.9.0, code 0123456 with changes."
    result["shape"] = asdict(Shape(width=96, device="cuda"))
    assert show.where(result).startswith("On H100, torch 2.9.0")
    assert show.where(result).endswith(" Sizes other than the default: width 96, device cuda.")
    stored = {"adapted_layers": [1, 3, 6, 9, 12], "images": 2}
    assert show.changed_sizes({"benchmark": "trunk_reuse", "shape": stored}) == {"images": (2, 4)}


@pytest.mark.parametrize(
    ("shape", "says"),
    [
        ("{", "not valid JSON"),
        ("[1]", "must be a JSON object"),
        ('{"wide": 1}', "no size 'wide'; there are: width, "),
        ('{"width": "x"}', "width must be a whole number"),
        ('{"device": "cuda"}', "finds no such GPU here"),
        ('{"device": "cuda:1"}', "finds no such GPU here"),
        ('{"device": "tpu"}', "there is no device 'tpu'; choose from: cpu, cuda"),
        ('{"device": "cuda:x"}', "there is no device 'cuda:x'"),
        ('{"heads": 0}', "heads must be 1 or more, not 0"),
        ('{"batch": -1}', "batch must be 1 or more"),
        ('{"width": 36}', "the width 36 must be an even multiple of the 12 heads"),
        ('{"kv_heads": 5}', r"heads \(12\) must be a multiple of kv_heads \(5\)"),
        ('{"adapted_layers": 9}', r"adapted_layers \(9\) must be at most layers \(8\)"),
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


@pytest.mark.parametrize("option", ["--rounds", "--threads"])
@pytest.mark.parametrize("value", ["0", "-1", "many"])
def test_a_number_below_one_is_refused(
    option: str, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["train_step", option, value])
    with pytest.raises(SystemExit):
        command.main("train_step")
    assert f"argument {option}: {value!r} is not a whole number" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("kind", "shape", "says"),
    [
        (encoders.Shape, '{"vit_heads": 7}', "width 768 must be a multiple of its 7 heads"),
        (encoders.Shape, '{"patch_size": 15}', "must be a multiple of patch_size 15"),
        (encoders.Shape, '{"roberta_heads": 3}', "multiple of the 3 roberta_heads"),
        (trunk_reuse.Shape, '{"adapted_layers": [1, 13]}', r"\[1, 13\] must name .* 12 layers"),
        (trunk_reuse.Shape, '{"adapted_layers": []}', "must name"),
        (trunk_reuse.Shape, '{"adapted_layers": [0]}', "1 or more"),
    ],
)
def test_an_encoder_that_cannot_be_is_refused(kind: type, shape: str, says: str) -> None:
    with pytest.raises(ZiaError, match=says):
        command.shape_of(kind, shape)


def test_what_cannot_be_written_shows_before_anything_is_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("benchmarks.train_step.measure", lambda *_: pytest.fail("measured"))
    with pytest.raises(ZiaError, match="is a folder: name a file in it"):
        command.run("train_step", out=tmp_path)
    (tmp_path / "file").touch()
    with pytest.raises(ZiaError, match=r"cannot write .*train_step\.json"):
        command.run("train_step", out=tmp_path / "file" / "train_step.json")
