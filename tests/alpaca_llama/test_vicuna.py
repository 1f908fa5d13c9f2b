"""Answers to Vicuna's questions as files of that benchmark, and reviews of them."""

import gzip
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from experiments.alpaca_llama import plan
from experiments.alpaca_llama.vicuna import load_questions
from experiments.dispatch.in_process import run_one
from experiments.harness import seal, stored, verify
from experiments.harness.publish import publish
from experiments.metrics.pairwise.files import score_files
from tests.alpaca_llama import world
from zia_core import ZiaError

QUESTIONS = [
    {"question_id": 7, "text": "How long is a\u2028week?", "category": "generic"},
    {"question_id": 3, "text": "Why?", "category": "generic"},
]


def write_questions(data: Path, lines: list[Any]) -> None:
    (data / "vicuna80").mkdir(parents=True, exist_ok=True)
    text = "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines)
    (data / "vicuna80/question.jsonl.gz").write_bytes(gzip.compress(text.encode()))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        write_questions(folder / "data", QUESTIONS)
        yield folder


def answered(root: Path, method: str) -> tuple[stored.StoredRun, list[dict[str, Any]]]:
    spec = world.spec(method, vicuna=True)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    run = stored.load(root / "runs" / spec.experiment / spec.folder_name)
    lines = (run.path / "answers.jsonl").read_text().splitlines()
    return run, [json.loads(line) for line in lines]


def test_the_answers_of_two_runs_can_be_reviewed(root: Path, tmp_path: Path) -> None:
    (one, ours), (_, theirs) = answered(root, "zero-init"), answered(root, "frozen")
    for answers in (ours, theirs):
        assert [each["question_id"] for each in answers] == [7, 3]
        assert all(isinstance(each["text"], str) for each in answers)
        assert len({each["model_id"] for each in answers}) == 1
    identity = one.path.name.rpartition("-")[2]
    assert ours[0]["model_id"] == f"smollm2-135m-instruct-zero-init:{identity}"
    assert len({each["answer_id"] for each in ours + theirs}) == 4
    for name, first, second, score in (("a", ours, theirs, [7, 9]), ("b", theirs, ours, [9, 6])):
        reviews = [
            {
                "question_id": one["question_id"],
                "answer1_id": one["answer_id"],
                "answer2_id": two["answer_id"],
                "score": score,
            }
            for one, two in zip(first, second, strict=True)
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in reviews))
    totals, remarks = score_files([tmp_path / "a.jsonl", tmp_path / "b.jsonl"])
    assert remarks == []
    assert "both_orders" in totals["a"]


def test_the_run_is_whole_and_its_answers_are_published_as_they_are(
    root: Path, tmp_path: Path
) -> None:
    run, _ = answered(root, "zero-init")
    assert {finding.outcome for finding in verify.verify(run.path)} == {"ok"}
    assert run.environment["data"].keys() == {"alpaca", "vicuna80"}
    assert {p["set"] for p in run.predictions()} == {"validation", "nine", "alpaca"}
    # A path in an answer is the model's own text, and no path of this machine.
    path = run.path / "answers.jsonl"
    path.write_text(path.read_text().replace('"text":"', '"text":"see /usr/lib/python '))
    seal.write(run.path)
    copies = publish(root / "runs", tmp_path / "published")
    [copy] = [each for each in copies if each.name == run.path.name]
    assert (copy / "answers.jsonl").read_bytes() == path.read_bytes()
    assert {finding.outcome for finding in verify.verify(copy)} == {"ok", "absent"}


def test_other_runs_are_as_they_were() -> None:
    small = plan.plan("small", "cpu")
    assert not any(spec.settings.vicuna for spec in small)
    with_answers = world.spec("zero-init", vicuna=True)
    assert with_answers.identity != world.spec("zero-init").identity
    paper = [spec for spec in plan.plan("paper", "cuda") if spec.task == plan.TASK]
    assert all(spec.settings.vicuna for spec in paper)


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            [{"question_id": 1, "text": "a"}, {"question_id": 1, "text": "b"}],
            "line 2: 'question_id'",
        ),
        ([{"question_id": "1", "text": "a"}], "line 1: 'question_id' must be a whole number"),
        ([{"question_id": True, "text": "a"}], "line 1: 'question_id' must be a whole number"),
        ([{"question_id": 1}], "line 1 has no field 'text'"),
        ([["a"]], "line 1 must be a JSON object"),
    ],
)
def test_questions_that_are_none_are_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, lines: list[Any], sentence: str
) -> None:
    monkeypatch.setenv("ZIA_DATA", str(tmp_path))
    write_questions(tmp_path, lines)
    with pytest.raises(ZiaError, match=sentence):
        load_questions()


def test_without_the_file_it_says_where_it_belongs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("ZIA_DATA", raising=False)
    with pytest.raises(ZiaError, match=r"no Vicuna questions: \$ZIA_DATA is not set; put the file"):
        load_questions()


def test_the_official_file(shared_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_DATA", str(shared_dir / "data"))
    questions = load_questions()
    assert len(questions) == 80
    assert questions[0].instruction == "How can I improve my time management skills?"
