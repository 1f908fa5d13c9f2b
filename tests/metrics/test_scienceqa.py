import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from experiments.metrics import load_metric
from experiments.metrics.scienceqa import scorer
from experiments.metrics.scienceqa.files import question_of
from zia_core.errors import ZiaError


def problem(answer: int = 0, **fields: Any) -> dict[str, Any]:
    """A test problem with two options; its fields beyond the official scorer's are left out."""
    return {
        "question": "?",
        "choices": ["yes", "no"],
        "answer": answer,
        "hint": "",
        "image": None,
        "grade": "grade1",
        "subject": "natural science",
        "topic": "physics",
        "split": "test",
    } | fields


PROBLEMS = {
    "4": problem(0, hint="a hint", image="image.png", grade="grade6"),
    "5": problem(1, hint="a hint", subject="social science", grade="grade7", topic="civics"),
    "11": problem(0, image="image.png", subject="language science", grade="grade12"),
    "12": problem(1),
    "16": problem(1, subject="language science", grade="grade12", topic="verbs"),
    "1": problem(0, split="train"),
}
SPLITS = {"train": ["1"], "val": [], "test": ["4", "5", "11", "12", "13", "16"], "minitest": ["4"]}
OUTPUTS = {
    "4": "The answer is A. BECAUSE: it is.",
    "5": "The answer is A.",
    "11": "The answer is B.",
    "12": "The answer is A. The answer is B.",
    "16": "So. The answer is B.",
}
# A possible random draw for problem 12.
RESULT = {"results": {"4": 0, "5": 0, "11": 1, "12": 1, "16": 1}, "outputs": OUTPUTS}


@pytest.mark.parametrize(
    ("output", "index"),
    [
        ("The answer is A.", 0),
        ("It is so. The answer is B. BECAUSE: yes.", 1),
        ("The answer is B!", 1),  # the official rule accepts any one character
        ("The answer is B", None),  # but one must
        ("The answer is C.", None),  # of two options
        ("The answer is (A).", None),
        ("the answer is A.", None),
        ("The answer is A. The answer is A.", None),
        ("A", None),
        ("", None),
    ],
)
def test_an_answer_is_parsed_by_the_official_rule(output: str, index: int | None) -> None:
    assert scorer.parse_answer(output, choices=2) == index


def test_every_class_is_the_official_one(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    files = "--predictions", write("r.json", RESULT), "--problems", write("p.json.gz", PROBLEMS)
    code, out, err = zia_score("scienceqa", *files, "--json")
    scores = json.loads(out)
    topics = {name: scores.pop(name) for name in list(scores) if name[4:] in scorer.TOPICS}
    assert code == 0
    # 4 and 16 are right, 5 and 11 are wrong, 12 cannot be parsed.
    assert scores == {
        "acc_natural": 50.0,  # 4 and 12
        "acc_social": 0.0,  # 5
        "acc_language": 50.0,  # 11 and 16
        "acc_has_text": 50.0,  # 4 and 5
        "acc_has_image": 50.0,  # 4 and 11
        "acc_no_context": 50.0,  # 12 and 16
        "acc_grade_1_6": 50.0,  # 4 and 12
        "acc_grade_7_12": 33.33,  # 5, 11 and 16
        "acc_average": 40.0,
        "correct": 2,
        "count": 5,
        "unparsable": 1,
    }
    assert len(topics) == 26
    assert topics.pop("acc_physics") == 33.33
    assert topics.pop("acc_civics") == 0.0
    assert topics.pop("acc_verbs") == 100.0
    assert set(topics.values()) == {-1}  # no question
    assert err.startswith("1 outputs cannot be parsed and count as wrong; --stored-indices")


def test_the_stored_indices_hold_what_was_drawn(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    files = "--predictions", write("r.json", RESULT), "--problems", write("p.json", PROBLEMS)
    code, out, err = zia_score("scienceqa", *files, "--stored-indices", "--json")
    scores = json.loads(out)
    assert (code, err) == (0, "")
    assert (scores["acc_average"], scores["unparsable"]) == (60.0, 1)


def test_a_file_without_outputs_is_scored_by_its_indices(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    result = {"results": RESULT["results"] | {"12": -1}}
    files = "--predictions", write("r.json", result), "--problems", write("p.json", PROBLEMS)
    code, out, _ = zia_score("scienceqa", *files, "--json")
    assert (code, json.loads(out)["acc_average"], json.loads(out)["unparsable"]) == (0, 40.0, 1)


def test_test_problems_that_the_file_lacks_are_left_out_and_named(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    result = {"outputs": OUTPUTS | {"13": "The answer is A."}}
    files = "--predictions", write("r.json", result), "--problems", write("p.json", PROBLEMS)
    for splits in ((), ("--splits", write("s.json", SPLITS))):
        code, out, err = zia_score("scienceqa", *files, *splits, "--json")
        assert (code, json.loads(out)["count"]) == (0, 5)
        assert err.startswith("1 of 6 predictions (13) are left out: their problems are not in ")


def test_the_splits_file_decides_where_the_problems_do_not_say(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    bare = {pid: {k: v for k, v in one.items() if k != "split"} for pid, one in PROBLEMS.items()}
    files = "--predictions", write("r.json", RESULT), "--problems", write("p.json", bare)
    code, out, _ = zia_score("scienceqa", *files, "--splits", write("s.json", SPLITS), "--json")
    assert (code, json.loads(out)["count"]) == (0, 5)


WITHOUT_4 = {name: {k: v for k, v in of.items() if k != "4"} for name, of in RESULT.items()}


@pytest.mark.parametrize(
    ("result", "problems", "splits", "sentence"),
    [
        (WITHOUT_4, {}, None, r"r.json: 1 of 5 test problems of .*p.json have no prediction \(4\)"),
        (
            {"outputs": OUTPUTS | {"x7": "A", "99999": "A"}},
            {},
            None,
            r"r.json: 2 predictions are for no test problem of .*p.json \(99999, x7\)",
        ),
        ({"outputs": OUTPUTS | {"1": "A"}}, {}, None, r"no test problem of .*p.json \(1\)"),
        ({"outputs": OUTPUTS | {"14": "A"}}, {}, SPLITS, r"no test problem of .*s.json \(14\)"),
        ({"outputs": OUTPUTS | {"4": None}}, {}, None, "outputs: '4' must be a text, not null"),
        ({"results": {"4": "A"}}, {}, None, "the result of '4' must be an index, not 'A'"),
        (
            {"results": RESULT["results"] | {"5": 2}},
            {},
            None,
            "the result of '5' is 2, but the problem has 2 options",
        ),
        (
            RESULT | {"results": {"4": 0}},
            {},
            None,
            "5, 11, 12, ... must be under 'results' and 'out",
        ),
        ({"predictions": {}}, {}, None, "r.json must be an object with 'results' or 'outputs'"),
        ({"outputs": []}, {}, None, "'outputs' must be an object with one value a pid"),
        (RESULT, {"12": problem(choices=[])}, None, "problem '12': 'choices' must be a list of 1"),
        (RESULT, {"12": problem(answer=2)}, None, "problem '12': 'answer' must be an index into"),
        (RESULT, {"12": problem(image=3)}, None, "problem '12': 'image' must be a file name or"),
        (RESULT, {"12": problem(grade="7")}, None, "problem '12': 'grade' must be like 'grade7'"),
        (RESULT, {"12": problem(hint=None)}, None, "problem '12': 'hint' must be a text, not null"),
        (RESULT, {"12": problem(split=None)}, None, "problem '12' has no split: give --splits"),
        (RESULT, {"12": []}, None, "problem '12' must be a JSON object"),
        (RESULT, {"77": problem()}, SPLITS, "problem '77' has no split: add it to .*s.json"),
        (RESULT, {"1": problem()}, SPLITS, "problem '1' says split 'test', and .*s.json 'train'"),
        (RESULT, {}, SPLITS | {"val": ["4"]}, "s.json: '4' is in val and in test: keep one"),
        (RESULT, {}, {"train": []}, "s.json must be an object {split: \\[pid\\]} with 'test'"),
    ],
)
def test_what_is_wrong_is_named(
    zia_score: Callable[..., Any],
    write: Callable[[str, Any], Path],
    result: Any,
    problems: Any,
    splits: Any,
    sentence: str,
) -> None:
    files = ["--predictions", write("r.json", result)]
    files += ["--problems", write("p.json", PROBLEMS | problems)]
    if splits is not None:
        files += ["--splits", write("s.json", splits)]
    code, out, err = zia_score("scienceqa", *files)
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert re.search(sentence, err), err


def test_questions_and_predictions_must_go_together() -> None:
    question = scorer.Question(2, 0, "natural science", "physics", 1, False, False)
    with pytest.raises(ZiaError, match="1 questions have no prediction: 2"):
        scorer.score({"1": question, "2": question}, {"1": 0})
    with pytest.raises(ZiaError, match="1 predictions are for unknown questions: 2"):
        scorer.score({"1": question}, {"1": 0, "2": 0})
    with pytest.raises(ZiaError, match="no question to score"):
        scorer.score({}, {})


OFFICIAL = {"task": "closed choice", "category": "c", "skill": "s", "lecture": "l", "solution": "s"}
FOUR, TWELVE = PROBLEMS["4"] | OFFICIAL, PROBLEMS["12"] | OFFICIAL  # with an image, and null
OPENED = Image.new("RGB", (2, 2))


@pytest.mark.parametrize(
    "problems",
    [
        (FOUR, TWELVE),
        (TWELVE, FOUR),
        (FOUR | {"image": OPENED}, TWELVE),  # a data set of the hub
        (TWELVE, FOUR | {"image": {"bytes": b"", "path": None}}),
    ],
)
def test_the_evaluate_module_takes_official_problems_as_they_are(problems: Any) -> None:
    outputs = {"a hint": OUTPUTS["4"], "": "I do not know."}
    scores = load_metric("scienceqa").compute(
        predictions=[outputs[problem["hint"]] for problem in problems], references=problems
    )
    assert (scores["acc_average"], scores["acc_has_text"], scores["unparsable"]) == (50, 100, 1)
    assert (scores["acc_has_image"], scores["acc_no_context"]) == (100, 0)
    assert "acc_social" not in scores


def test_the_evaluate_module_names_the_row_that_is_wrong() -> None:
    lacking = {name: value for name, value in TWELVE.items() if name != "hint"}
    for wrong, sentence in (
        (lacking, "reference 1 has no field 'hint'"),
        (TWELVE | {"image": 3}, "reference 1: 'image' must be a file name or null"),
        (TWELVE | {"answer": "A"}, "reference 1: 'answer' must be an index"),
        (None, "reference 1 must be a JSON object, not null"),
    ):
        metric = load_metric("scienceqa")
        with pytest.raises(ZiaError, match=sentence):
            metric.compute(predictions=["", ""], references=[FOUR, wrong])
    with pytest.raises(ZiaError, match="prediction 0 must be the output, a text, not None"):
        metric.compute(predictions=[None], references=[FOUR])
    metric.add(prediction=OUTPUTS["4"], reference=FOUR)
    metric.add_batch(predictions=["I do not know."], references=[TWELVE])
    assert metric.compute()["acc_average"] == 50


def test_the_evaluate_module_scores_the_published_problems(shared_dir: Path) -> None:
    folder = shared_dir / "data/scienceqa"

    def load(name: str) -> Any:
        return json.loads(gzip.decompress((folder / name).read_bytes()))

    outputs = load("results_gpt3_QCM-ALE_2_seed_3.json.gz")["outputs"]
    test = {
        pid: problem
        for pid, problem in load("problems_1-1773.json.gz").items()
        if problem["split"] == "test"
    }
    scores = load_metric("scienceqa").compute(
        predictions=[outputs[pid] for pid in test], references=list(test.values())
    )
    questions = {pid: question_of(problem, pid) for pid, problem in test.items()}
    parsed = {pid: scorer.parse_answer(outputs[pid], q.choices) for pid, q in questions.items()}
    assert scores == scorer.score(questions, parsed)
    assert scores["count"] == 361


def test_scores_of_the_published_file_are_the_official_ones(
    shared_dir: Path, zia_score: Callable[..., Any]
) -> None:
    folder = shared_dir / "data/scienceqa"
    expected = json.loads((folder / "expected_gpt3.json").read_text())["gpt3_QCM-ALE_2_seed_3"]
    files = "--predictions", folder / "results_gpt3_QCM-ALE_2_seed_3.json.gz"
    files += "--problems", folder / "problems_1-1773.json.gz", "--stored-indices", "--json"
    for splits in ((), ("--splits", folder / "pid_splits.json.gz")):
        code, out, err = zia_score("scienceqa", *files, *splits)
        scores = json.loads(out)
        given = {
            name: value if value == -1 else f"{value:.2f}"
            for name, value in scores.items()
            if name in expected["test_361_of_problems_1-1773"]
        }
        assert (code, given) == (0, expected["test_361_of_problems_1-1773"])
        assert err.startswith("3,880 of 4,241 predictions (1774, 1779, 1784, ...) are left out")


def test_the_published_file_gives_the_published_img_column(shared_dir: Path) -> None:
    folder = shared_dir / "data/scienceqa"
    expected = json.loads((folder / "expected_gpt3.json").read_text())["gpt3_QCM-ALE_2_seed_3"]

    def load(name: str) -> Any:
        return json.loads(gzip.decompress((folder / name).read_bytes()))

    result = load("results_gpt3_QCM-ALE_2_seed_3.json.gz")
    questions = {
        one["pid"]: scorer.Question(len(one["choices"]), one["answer"], "", "", 0, False, True)
        for one in load("test_image_questions.json.gz")
    }
    scores = scorer.score(questions, {pid: result["results"][pid] for pid in questions})
    image = expected["image_test_questions_2017"]
    assert (scores["correct"], scores["count"]) == (image["correct"], 2017)
    assert scores["acc_has_image"] == pytest.approx(image["acc"], abs=1e-12)  # 67.43
    # Where the official rule parses an output, the stored index is what it says.
    parsed = {
        pid: scorer.parse_answer(result["outputs"][pid], question.choices)
        for pid, question in questions.items()
    }
    assert all(index in (None, result["results"][pid]) for pid, index in parsed.items())
