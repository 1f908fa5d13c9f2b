import gzip
import json
import math
import random
from pathlib import Path

import evaluate
import pytest

from experiments.metrics import load_metric, squad
from experiments.metrics.squad.files import score_files
from experiments.metrics.squad.scorer import (
    exact_match,
    f1,
    normalised,
    pair_v2,
    score_v1,
    score_v2,
)
from zia_core.errors import ZiaError

ANSWERS = {"a": ["the Denver Broncos", "Broncos"], "b": ["1 May 1990"], "c": [], "d": []}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("The  Eiffel\tTower", "eiffel tower"),
        ("an apple, a day", "apple day"),
        ("A.M. and a-the", "am and athe"),  # punctuation goes before articles
        ("theatre athena", "theatre athena"),
        ("«Été»\u00a02½", "«été» 2½"),  # only ASCII punctuation goes
        ("the. a!", ""),
    ],
)
def test_what_is_compared_has_no_case_punctuation_articles_or_spaces(
    text: str, expected: str
) -> None:
    assert normalised(text) == expected


def test_exact_match_and_f1_of_one_pair() -> None:
    assert exact_match("the Broncos!", "broncos") == 1.0
    assert exact_match("Denver Broncos", "broncos") == 0.0
    # Of 3 and 2 words one is shared: precision 1/3, recall 1/2.
    assert f1("denver x y", "Denver Broncos") == pytest.approx(2 / 5)
    # A word counts as often as both have it: 2 of 3, 2 of 2.
    assert f1("x x x", "x x") == pytest.approx(4 / 5)
    assert f1("x", "y") == 0.0
    assert f1("the", "a") == 0.0
    assert exact_match("the", "a") == 1.0


def test_version_1_takes_the_best_answer_and_scores_missing_ones_zero() -> None:
    answers = {"a": ["Denver Broncos", "the Broncos"], "b": ["1 May 1990"], "c": ["x"]}
    scores = score_v1(answers, {"b": "May", "a": "broncos", "unknown": "x"})
    assert scores == {
        "exact_match": pytest.approx(100 / 3),
        "f1": pytest.approx(100 * (1 + 1 / 2) / 3),
        "total": 3,
        "unanswered_questions": 1,
    }
    with pytest.raises(ZiaError, match=r"question d has no answer, .*score it as version 2\.0"):
        score_v1({"d": []}, {})


def test_version_2_gives_points_for_silence_where_there_is_no_answer() -> None:
    given = {"a": "Broncos", "b": "May", "c": "", "d": "May", "unknown": "x"}
    assert score_v2(ANSWERS, given) == {
        "exact": 50.0,
        "f1": pytest.approx(100 * 2.5 / 4),
        "total": 4,
        "HasAns_exact": 50.0,
        "HasAns_f1": pytest.approx(75.0),
        "HasAns_total": 2,
        "NoAns_exact": 50.0,
        "NoAns_f1": 50.0,
        "NoAns_total": 2,
    }
    only = score_v2({"c": []}, {"c": "the"})  # an article alone says nothing
    assert only == {"exact": 100.0, "f1": 100.0, "total": 1} | {
        f"NoAns_{name}": value for name, value in (("exact", 100.0), ("f1", 100.0), ("total", 1))
    }


@pytest.mark.parametrize(
    ("prediction", "answers", "expected"),
    [
        ("", ["x"], (0.0, 0.0)),
        ("the", ["x"], (0.0, 0.0)),
        ("", ["the"], (1.0, 1.0)),  # such an answer is none
        ("x", ["the"], (0.0, 0.0)),
        ("", ["the", "x"], (0.0, 0.0)),
        ("x y", ["x", "y x"], (0.0, 1.0)),
    ],
)
def test_answers_without_words_do_not_count_in_version_2(
    prediction: str, answers: list[str], expected: tuple[float, float]
) -> None:
    assert pair_v2(prediction, answers) == expected


def test_version_2_refuses_missing_predictions_or_scores_them_zero() -> None:
    with pytest.raises(ZiaError) as caught:
        score_v2(ANSWERS, {"unknown": ""})
    said = "4 of 4 questions have no prediction (a, b, c, ...): complete them, or score them 0"
    assert said in str(caught.value)
    assert "--missing zero" in str(caught.value)
    scores = score_v2(ANSWERS, {"a": "Broncos", "c": ""}, missing_is_zero=True)
    assert (scores["exact"], scores["total"]) == (50.0, 4)
    # A missing "no answer" does not count as blank, nor for the best threshold.
    probs = {"a": 0.1, "c": 0.2}
    bests = score_v2(ANSWERS, {"a": "Broncos", "c": ""}, probs, missing_is_zero=True)
    assert (bests["best_exact"], bests["best_exact_thresh"]) == (50.0, 0.1)
    with pytest.raises(ZiaError, match=r"1 of 2 questions have no probability of no answer \(c\)"):
        score_v2(ANSWERS, {"a": "", "c": ""}, {"a": 0.1}, missing_is_zero=True)


def test_nothing_to_score_is_refused() -> None:
    for score in (score_v1, score_v2):
        with pytest.raises(ZiaError, match="no question to score"):
            score({}, {})


def test_a_probability_above_one_blanks_and_the_best_thresholds_are_told() -> None:
    given = {"a": "Denver", "b": "1 May", "c": "x", "d": "y"}
    probs = {"a": 0.1, "c": 0.2, "b": 0.3, "d": 7.0, "unknown": 0.0}
    scores = score_v2(ANSWERS, given, probs)
    assert scores["NoAns_exact"] == 50.0  # d is blanked, c is not
    # Blank 2; with a 2 + 2/3; with c one less; with b 4/5 more: 2.4666; with d one less.
    assert scores["best_f1"] == pytest.approx(100 * (2 + 2 / 3) / 4)
    assert scores["best_f1_thresh"] == 0.1
    assert (scores["best_exact"], scores["best_exact_thresh"]) == (50.0, 0.0)
    assert list(scores)[-4:] == ["best_exact", "best_exact_thresh", "best_f1", "best_f1_thresh"]


def test_questions_of_equal_probability_are_let_in_one_by_one_as_officially() -> None:
    answers = {"a": ["x"], "c": []}
    given = {"a": "x", "c": "y"}
    assert score_v2(answers, given, {"a": 0.5, "c": 0.5})["best_exact"] == 100.0
    assert score_v2(answers, given, {"c": 0.5, "a": 0.5})["best_exact"] == 50.0


def test_the_best_threshold_is_the_best_of_all() -> None:
    draw = random.Random(0)
    names = [str(i) for i in range(60)]
    answers = {name: ["x y"] if draw.random() < 0.6 else [] for name in names}
    given = {name: draw.choice(["x y", "x", "z", ""]) for name in names}
    probs = {name: draw.random() for name in names}
    scores = score_v2(answers, given, probs)

    def at(threshold: float) -> float:
        kept = {name: given[name] if probs[name] <= threshold else "" for name in names}
        return score_v2(answers, kept)["f1"]

    candidates = [-1.0, *probs.values()]
    assert scores["best_f1"] == pytest.approx(max(map(at, candidates)))
    assert at(scores["best_f1_thresh"]) == pytest.approx(scores["best_f1"])


def test_the_evaluate_module_gives_the_scorer_s_numbers() -> None:
    metric = load_metric("squad")
    given = {"a": "Broncos", "b": "May", "c": "", "d": "May"}
    predictions = [{"id": k, "prediction_text": v} for k, v in given.items()]
    references = [{"id": k, "answers": {"text": v}} for k, v in list(ANSWERS.items())[::-1]]
    computed = metric.compute(predictions=predictions, references=references, version="2.0")
    assert computed == pytest.approx(score_v2(ANSWERS, given))
    probs = dict.fromkeys(given, 0.5)
    computed = metric.compute(
        predictions=predictions, references=references, version="2.0", na_probs=probs
    )
    assert computed == pytest.approx(score_v2(ANSWERS, given, probs))
    computed = metric.compute(predictions=predictions[:2], references=references[2:], version="1.1")
    assert computed == pytest.approx(score_v1({k: ANSWERS[k] for k in "ab"}, given))
    with pytest.raises(ZiaError, match="the id a comes twice"):
        metric.compute(predictions=predictions[:1] * 4, references=references, version="2.0")
    with pytest.raises(ValueError, match=r"version must be '1\.1' or '2\.0', not '3'"):
        metric.compute(predictions=predictions, references=references, version="3")


HUB = {"title": "t", "context": "c", "question": "?"}  # further fields of the hub's data sets


def test_the_evaluate_module_takes_the_hub_s_rows_and_the_official_file_s() -> None:
    metric = load_metric("squad")
    given = {"b": "May", "c": "", "a": "Broncos", "d": "May"}
    probs = {"b": 0.1, "c": 0.9, "a": 0.0, "d": 0.6}
    plain = [{"id": k, "prediction_text": v} for k, v in given.items()]
    sure = [row | {"no_answer_probability": probs[row["id"]]} for row in plain]
    of_hub = [
        HUB | {"id": k, "answers": {"text": v, "answer_start": [0] * len(v)}}
        for k, v in ANSWERS.items()
    ]
    of_file = [
        {"id": k, "is_impossible": not v, "answers": [{"text": t, "answer_start": 0} for t in v]}
        for k, v in ANSWERS.items()
    ]
    plain_scores, sure_scores = score_v2(ANSWERS, given), score_v2(ANSWERS, given, probs)
    assert set(sure_scores) - set(plain_scores)
    for references in (of_hub, of_hub[::-1], of_file):
        both = {"references": references, "version": "2.0"}
        assert metric.compute(predictions=plain, **both) == pytest.approx(plain_scores)
        assert metric.compute(predictions=sure, **both) == pytest.approx(sure_scores)
    answered = [row for row in of_hub if row["id"] in "ab"]
    expected = score_v1({k: ANSWERS[k] for k in "ab"}, given)
    for rows in (plain, sure):
        given_rows = [row for row in rows if row["id"] in "ab"]
        assert metric.compute(predictions=given_rows, references=answered) == expected
    with pytest.raises(ZiaError, match="score it as version 2"):
        metric.compute(predictions=plain, references=of_hub)


def test_the_configuration_s_name_is_a_version_as_on_the_hub() -> None:
    script = Path(squad.__path__[0])
    row = {"id": "a", "answers": {"text": ["x"], "answer_start": [0]}}
    options = {"predictions": [{"id": "a", "prediction_text": "x"}], "references": [row]}
    for name, key in (("squad_v2", "exact"), ("2.0", "exact"), ("squad", "exact_match")):
        metric = evaluate.load(str(script), name, keep_in_memory=True)
        assert key in metric.compute(**options)
    assert "exact_match" in metric.compute(version="1.1", **options)
    with pytest.raises(ZiaError, match="SQuAD has no version '3': choose from"):
        evaluate.load(str(script), "3", keep_in_memory=True)


def test_the_evaluate_module_names_the_row_that_is_wrong() -> None:
    prediction = {"id": "a", "prediction_text": "x"}
    reference = {"id": "a", "answers": {"text": ["x"]}}
    maybe = prediction | {"no_answer_probability": 0.5}
    for given, right, options, sentence in (
        ({"id": 3}, reference, {}, "prediction 0: 'id' must be a text, not a number"),
        ({"id": "a"}, reference, {}, "prediction 0 has no field 'prediction_text'"),
        (maybe | {"no_answer_probability": math.nan}, reference, {}, "must be a finite number"),
        (prediction, {"id": "a"}, {}, "reference 0: 'answers' must have a list of texts"),
        (prediction, {"id": "a", "answers": {"text": [1]}}, {}, "must have a list of texts"),
        (prediction, {"id": "a", "answers": [{}]}, {}, "reference 0, answers has no field 'text'"),
        (prediction, reference, {"na_probs": {}}, "version 1.1 has no unanswerable"),
        (maybe, reference, {"na_probs": {"a": 1.0}, "version": "2.0"}, "are both given"),
    ):
        with pytest.raises(ZiaError, match=sentence):
            load_metric("squad").compute(predictions=[given], references=[right], **options)


def test_published_predictions_have_their_published_scores(shared_dir: Path) -> None:
    folder = shared_dir / "data" / "squad"
    expected = json.loads((folder / "expected_scores.json").read_text())
    for name, numbers in expected.items():
        version = "1.1" if name.startswith("v1.1") else "2.0"
        scores, _ = score_files(
            folder / "predictions" / f"{name}.json.gz", folder / f"dev-v{version}.json.gz", version
        )
        assert scores.keys() == numbers.keys()
        for key, number in numbers.items():
            assert scores[key] == pytest.approx(number, abs=1e-9), (name, key)


def test_packed_and_plain_files_score_the_same(tmp_path: Path) -> None:
    question = {"id": "a", "question": "?", "answers": [{"text": "x", "answer_start": 0}]}
    references = {"version": "1.1", "data": [{"paragraphs": [{"context": "x", "qas": [question]}]}]}
    for name, value in (("references", references), ("given", {"a": "x", "b": "y"})):
        content = json.dumps(value).encode()
        (tmp_path / f"{name}.json").write_bytes(content)
        (tmp_path / f"{name}.json.gz").write_bytes(gzip.compress(content))
    plain = score_files(tmp_path / "given.json", tmp_path / "references.json", "1.1")
    packed = score_files(tmp_path / "given.json.gz", tmp_path / "references.json.gz", "1.1")
    assert plain == packed
    assert plain[0]["exact_match"] == 100.0
    assert plain[1] == ["1 of 2 predictions have an unknown id: ignored."]
