"""What `zia run squad_roberta` says to bad data: one sentence with the file and the record."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.cli import main
from tests.squad_roberta import tiny
from tests.squad_roberta.world import official, qa, write

Zia = Callable[[str], str]
CHANGES = " ".join(
    f"--set {name}={value}" for name, value in (tiny.QUICK | {"batch_size": 8}).items()
)
PAPER = f"run squad_roberta --profile paper --method zero-init --device cpu {CHANGES}"


@pytest.fixture
def zia(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Zia:
    """`zia("run ...")` in a small world: what it says when it fails."""
    tiny.prepare(tmp_path, monkeypatch)
    tiny.write_roberta(tmp_path / "weights" / "roberta-large")
    monkeypatch.chdir(tmp_path)
    capsys.readouterr()

    def call(line: str) -> str:
        monkeypatch.setattr(sys, "argv", ["zia", *line.split()])
        with pytest.raises(SystemExit) as end:
            main.main()
        printed = capsys.readouterr()
        assert "Traceback" not in printed.err
        return f"{end.value.code}: {printed.err}"

    return call


def rewrite(root: Path, name: str, change: Callable[[dict[str, Any]], Any]) -> None:
    path = root / "data" / "squad" / name
    content = json.loads(path.read_text())
    change(content["data"][0]["paragraphs"][0])
    path.write_text(json.dumps(content))


def moved(paragraph: dict[str, Any]) -> None:
    paragraph["qas"][0]["answers"][0]["answer_start"] += 1


def emptied(paragraph: dict[str, Any]) -> None:
    paragraph["context"] = "  "


def test_a_run_of_good_data_is_done(zia: Zia) -> None:
    assert zia(PAPER).startswith("0: ")


@pytest.mark.parametrize("part", ["train", "dev"])
@pytest.mark.parametrize(
    ("change", "sentence"),
    [(moved, "the context does not have answer 0"), (emptied, "the context is empty")],
)
def test_a_broken_record_is_named(
    zia: Zia, tmp_path: Path, part: str, change: Callable[[dict[str, Any]], None], sentence: str
) -> None:
    rewrite(tmp_path, f"{part}-v1.1.json", change)
    said = zia(PAPER)
    assert said.startswith(f"1: failed: {tmp_path}/data/squad/{part}-v1.1.json, data[0].paragraphs")
    assert sentence in said


def test_the_other_version_and_other_bytes_are_refused(zia: Zia, tmp_path: Path) -> None:
    squad = tmp_path / "data" / "squad"
    (squad / "train-v1.1.json").write_bytes((squad / "train-v2.0.json").read_bytes())
    assert "train-v1.1.json is a file of SQuAD 2.0 (its 'version'), not 1.1" in zia(PAPER)
    (squad / "train-v1.1.json").write_bytes("{\xe9}".encode("latin-1"))
    retried = zia(f"{PAPER} --retry failed")
    assert "train-v1.1.json is not UTF-8 text (byte 1)" in retried


def test_data_without_held_out_paragraphs_are_refused(zia: Zia, tmp_path: Path) -> None:
    text = "Hall 1 has 7 chairs."
    rows = [(text, [qa("a", "7", text.index("7"))])]
    write(tmp_path / "data", "train-v1.1.json", official("1.1", *rows))
    assert "no training paragraph is held out" in zia(PAPER)


def test_the_reduced_runs_want_their_questions(zia: Zia) -> None:
    said = zia("run squad_roberta --profile small --device cpu --method lora --set peak_lr=0.01")
    assert said.startswith("1: failed: record ")
    assert "which the subset reduced-2000-short lists, is missing in these train questions" in said


def test_settings_without_room_name_the_question(zia: Zia) -> None:
    said = zia(f"{PAPER} --set stride=90")
    assert "question q" in said
    assert "not more than the stride of 90: raise max_length" in said
