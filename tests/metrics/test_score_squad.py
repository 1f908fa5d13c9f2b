"""`zia score squad` on small files."""

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from experiments.cli import main


class Printed(NamedTuple):
    code: int
    out: str
    err: str


Score = Callable[[str], Printed]


def reference(*questions: tuple[str, list[str]], version: str = "v2.0") -> dict[str, Any]:
    qas = [
        {"id": name, "question": "?", "answers": [{"text": t, "answer_start": 0} for t in answers]}
        for name, answers in questions
    ]
    return {"version": version, "data": [{"title": "", "paragraphs": [{"qas": qas}]}]}


TWO = reference(("a", ["x y"]), ("b", []))
ONE = reference(("a", ["x y"]), ("c", ["z"]), version="1.1")


@pytest.fixture
def score(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Score:
    """`score("--version 2.0")` on the files given.json and answers.json of an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(options: str) -> Printed:
        files = "--predictions given.json --references answers.json"
        monkeypatch.setattr(sys, "argv", ["zia", "score", "squad", *f"{files} {options}".split()])
        with pytest.raises(SystemExit) as end:
            main.main()
        return Printed(int(end.value.code or 0), *capsys.readouterr())

    return call


def write(**files: Any) -> None:
    for name, value in files.items():
        content = value if isinstance(value, bytes) else json.dumps(value).encode()
        Path(f"{name}.json").write_bytes(content)


def test_json_has_the_official_names_and_nothing_else(score: Score) -> None:
    write(given={"a": "x", "b": "", "c": ""}, answers=TWO, odds={"a": -1, "b": 0.5})
    code, out, err = score("--version 2.0 --json")
    assert code == 0
    assert json.loads(out) == {
        "exact": 50.0,
        "f1": pytest.approx(100 * (2 / 3 + 1) / 2),
        "total": 2,
        "HasAns_exact": 0.0,
        "HasAns_f1": pytest.approx(200 / 3),
        "HasAns_total": 1,
        "NoAns_exact": 100.0,
        "NoAns_f1": 100.0,
        "NoAns_total": 1,
    }
    assert err == "1 of 3 predictions have an unknown id: ignored.\n"
    with_odds = json.loads(score("--version 2.0 --json --na-prob odds.json").out)
    assert (with_odds["best_f1_thresh"], with_odds["best_exact_thresh"]) == (-1, 0.0)


def test_without_it_a_table_for_people(score: Score) -> None:
    write(given={"a": "x y"}, answers=ONE)
    code, out, err = score("--version 1.1")
    assert code == 0
    assert out.splitlines() == [
        "exact_match           50.0000",
        "f1                    50.0000",
        "total                       2",
        "unanswered_questions        1",
    ]
    assert err == "1 of 2 questions have no prediction and score 0.\n"


def test_version_2_refuses_missing_ids_unless_told(score: Score) -> None:
    write(given={"a": "x y"}, answers=TWO)
    code, out, err = score("--version 2.0")
    assert (code, out) == (1, "")
    assert err == (
        "zia: given.json: 1 of 2 questions have no prediction (b): "
        "complete them, or score them 0 with --missing zero\n"
    )
    done = score("--version 2.0 --missing zero --json")
    assert (done.code, json.loads(done.out)["exact"]) == (0, 50.0)
    assert done.err == "1 of 2 questions have no prediction and score 0.\n"


NO_LIST = "answers.json must be an object with a list 'data'"
TWICE = "data[0].paragraphs[0].qas[1] (id a) has the id of data[0].paragraphs[0].qas[0]"


@pytest.mark.parametrize(
    ("files", "options", "sentence"),
    [
        ({"answers": TWO}, "--version 1.1", "answers.json is a file of SQuAD 2.0"),
        ({"answers": ONE}, "--version 2.0", "answers.json is a file of SQuAD 1.1"),
        ({"answers": TWO | {"version": ""}}, "--version 1.1", "qas[1] (id b) has no answer"),
        ({"answers": []}, "--version 1.1", NO_LIST),
        ({"answers": {"data": {}}}, "--version 1.1", NO_LIST),
        ({"answers": {"data": []}}, "--version 1.1", "answers.json holds no question"),
        ({"answers": {"data": [7]}}, "--version 1.1", "data[0] must be a JSON object with a list"),
        ({"answers": reference(("a", ["x"]), ("a", []))}, "--version 2.0", TWICE),
        ({"answers": reference(("a", [7]))}, "--version 2.0", "answer 0: 'text' must be a text"),  # type: ignore[list-item]
        ({"answers": reference((7, []))}, "--version 2.0", "qas[0]: 'id' must be a text"),  # type: ignore[arg-type]
        ({"answers": b"\xff"}, "--version 2.0", "answers.json is not UTF-8 text (byte 0)"),
        ({"answers": b'{"data": '}, "--version 2.0", "answers.json is not valid JSON (line 1"),
        ({"given": []}, "--version 2.0", "given.json must be one JSON object {question id: answer"),
        ({"given": {"a": 7, "b": ""}}, "--version 2.0", "given.json: 'a' must be a text, not a nu"),
        ({"given": b""}, "--version 2.0", "given.json is empty"),
        ({"odds": {"a": "x"}}, "--version 2.0 --na-prob odds.json", "'a' must be a finite number"),
        (
            {"odds": b'{"a":NaN}'},
            "--version 2.0 --na-prob odds.json",
            "odds.json is not valid JSON (NaN is not a JSON number",
        ),
        ({"odds": {"a": 1}}, "--version 2.0 --na-prob odds.json", "1 of 2 questions have no prob"),
    ],
)
def test_a_bad_file_is_one_sentence_with_its_place(
    score: Score, files: dict[str, Any], options: str, sentence: str
) -> None:
    write(**{"given": {"a": "x", "b": ""}, "answers": TWO} | files)
    code, out, err = score(options)
    assert (code, out) == (1, "")
    assert err.startswith("zia: ")
    assert sentence in err
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ("--version 3", "there is no version '3' of SQuAD; choose from: 1.1, 2.0"),
        ("", "Missing option '--version'"),
        ("--version 2.0 --missing one", "missing predictions 'one'; choose from: zero"),
        ("--version 1.1 --na-prob x", "version 1.1 has no unanswerable questions"),
    ],
)
def test_a_wrong_option_is_answered_with_the_valid_ones(
    score: Score, options: str, sentence: str
) -> None:
    code, out, err = score(options)
    assert (code, out) == (2, "")
    assert sentence in err
    assert err.count("\n") == 1


def test_a_file_that_is_not_there_is_named(score: Score) -> None:
    assert score("--version 1.1") == (
        1,
        "",
        "zia: cannot read answers.json: No such file or directory\n",
    )
