import gzip
import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from experiments.metrics.intervals import t_interval
from experiments.metrics.pairwise.files import parse_scores
from experiments.metrics.pairwise.scorer import Scores, both_orders, totals


def review(question: int, score: Any, first: str = "x", second: str = "y", **fields: Any) -> Any:
    """A line of a review file; answers x and y are those of two models."""
    return {
        "question_id": question,
        "answer1_id": f"{first}{question}",
        "answer2_id": f"{second}{question}",
        "score": score,
    } | fields


X_FIRST = [review(1, [8, 5]), review(2, [6, 6]), review(3, [7, 6])]
# The judge now sees y first; the scores are in the order of showing.
Y_FIRST = [review(1, [6, 7], "y", "x"), review(2, [7, 6], "y", "x"), review(3, [9, 5], "y", "x")]


def test_totals_are_sums_and_counts() -> None:
    assert totals([Scores(8, 5), Scores(6, 6), Scores(1, 6.5)]) == {
        "reviews": 3,
        "sum_answer1": 15,
        "sum_answer2": 17.5,
        "answer1_wins": 1,
        "ties": 1,
        "answer2_wins": 1,
    }


def test_both_orders_give_one_verdict_and_the_judges_bias(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    files = write("x_first.jsonl", X_FIRST), write("y_first.jsonl.gz", Y_FIRST)
    code, out, err = zia_score("pairwise", "--reviews", *files, "--json")
    results = json.loads(out)
    assert (code, err, list(results)) == (0, "", ["x_first", "y_first"])
    assert results["y_first"] == totals([Scores(6, 7), Scores(7, 6), Scores(9, 5)])
    of_both = results["x_first"].pop("both_orders")
    assert results["x_first"] == totals([Scores(8, 5), Scores(6, 6), Scores(7, 6)])
    # x against y over both: 8+7 to 5+6, 6+6 to 6+7, 7+5 to 6+9.
    assert (of_both["questions"], of_both["sum_answer1"], of_both["sum_answer2"]) == (3, 39, 39)
    assert [of_both[name] for name in ("answer1_wins", "ties", "answer2_wins")] == [1, 0, 2]
    assert of_both["flipped"] == 1  # question 3: the first answer won both times
    # Leads of the first answer: 3 and -1, 0 and 1, 1 and 4; half their sums: 1, 1/2, 5/2.
    mean, half = 4 / 3, 4.30265 * 1.040833 / 3**0.5
    assert of_both["position_bias"] == pytest.approx(mean)
    assert of_both["position_bias_low"] == pytest.approx(mean - half, abs=1e-4)
    assert of_both["position_bias_high"] == pytest.approx(mean + half, abs=1e-4)

    code, table, _ = zia_score("pairwise", "--reviews", files[0], "--reviews", files[1])
    assert code == 0
    assert re.search(r"^x_first\n  reviews  .*\n  both_orders\n    questions", table, re.S)


def test_both_orders_may_be_in_one_file(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    path = write("all.jsonl", [*X_FIRST, *Y_FIRST])
    _, out, _ = zia_score("pairwise", "--reviews", path, "--json")
    assert json.loads(out)["all"]["both_orders"]["questions"] == 3


def test_one_question_in_both_orders_is_remarked_on(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    path = write("one.jsonl", [X_FIRST[0], Y_FIRST[0]])
    code, out, err = zia_score("pairwise", "--reviews", path, "--json")
    assert (code, json.loads(out)["one"]["both_orders"]["position_bias_low"]) == (0, None)
    assert "one question is reviewed in both orders: its bias has no interval" in err


def test_a_text_may_hold_any_character(zia_score: Callable[..., Any], tmp_path: Path) -> None:
    line = json.dumps(review(1, [1, 2], text="a\u2028b\x85c"), ensure_ascii=False)
    (tmp_path / "a.jsonl").write_text(line + "\r\n", encoding="utf-8", newline="")
    code, out, _ = zia_score("pairwise", "--reviews", "a.jsonl", "--json")
    assert (code, json.loads(out)["a"]) == (0, totals([Scores(1, 2)]))


def test_a_fair_judge_has_no_bias_whoever_is_better() -> None:
    of_both = both_orders([(Scores(9, 2), Scores(2, 9)), (Scores(8, 4), Scores(4, 8))])
    assert (of_both["position_bias"], of_both["answer1_wins"], of_both["flipped"]) == (0, 2, 0)


def test_one_question_has_no_interval() -> None:
    of_both = both_orders([(Scores(9, 2), Scores(3, 9))])
    assert (of_both["position_bias"], of_both["position_bias_low"]) == (0.5, None)


def test_one_order_alone_says_nothing_about_bias(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    # Another pair of models is not the other order.
    files = write("a.jsonl", X_FIRST), write("b.jsonl", [review(1, [1, 2], "z", "y")])
    code, out, err = zia_score("pairwise", "--reviews", *files, "--json")
    assert (code, "both_orders" in out) == (0, False)
    assert "position bias is unknown" in err


@pytest.mark.parametrize(
    ("text", "scores"),
    [
        ("6 8\n\nAssistant 1 was better, 9 to 1.", (6, 8)),
        ("7.5, 9", (7.5, 9)),
        ("First, I solve it: (2, 3).\nSo 5.\nOutput: (1, 7)", (1, 7)),
        ("I think.\nScores:\nAssistant 1: 1/10\nAssistant 2: 2/10\n\nBoth are poor.", (1, 2)),
        ("Assistant 1:\n39 is wrong.\nAssistant 1: 3 (wrong)\nAssistant 2: 8 (right)", (3, 8)),
        ("Assistant 1 is better.", None),
        ("1 2 3\nx", None),
        ("", None),
    ],
)
def test_scores_are_read_from_the_judges_words(text: str, scores: Any) -> None:
    assert parse_scores(text) == scores


def test_the_text_counts_where_no_score_is_stored_and_else_the_score(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    reviews = [
        review(1, [-1, -1], text="7 9\nbecause"),
        review(2, [10, 2], text="Assistant 1: 10\nAssistant 2: 4"),
    ]
    path = write("a.jsonl", reviews)
    _, out, err = zia_score("pairwise", "--reviews", path, "--json")
    assert json.loads(out)["a"] == totals([Scores(7, 9), Scores(10, 2)])
    assert "a.jsonl, line 2 (question 2): 'score' differs from the text, and counts." in err


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        ([review(1, [1, 2]), review(2, [1])], "line 2 .question 2.: 'score' must be two numbers"),
        ([review(1, ["1", "2"])], "line 1 .question 1.: 'score' must be two numbers"),
        ([review(1, [1, -2])], "must be two numbers of at least 0, not .1, -2."),
        ([review(1, [-1, -1], text="Both are good.")], "line 1 .question 1. has no scores"),
        ([review(1, [1, 2], question_id=None)], "line 1 has no 'question_id'"),
        ([review(1, [1, 2], answer2_id=None)], "line 1: 'answer2_id' must be a text, not null"),
        ([review(1, [1, 2], "x", "x")], "line 1 .question 1. compares the answer 'x1' with itself"),
        ([review(1, [1, 2]), review(1, [2, 2])], "line 2 .* reviews what .*line 1 .* does, in the"),
        ([[1, 2]], "line 1 must be a JSON object, not a list"),
    ],
)
def test_what_is_wrong_is_named(
    zia_score: Callable[..., Any],
    write: Callable[[str, Any], Path],
    lines: list[Any],
    sentence: str,
) -> None:
    code, out, err = zia_score("pairwise", "--reviews", write("a.jsonl", lines))
    assert (code, out, err.count("\n")) == (1, "", 1)
    assert re.search(sentence, err), err


def test_a_broken_line_and_a_repeated_file_are_named(
    zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:
    good = write("a.jsonl", X_FIRST)
    code, _, err = zia_score("pairwise", "--reviews", good, good)
    assert (code, "a.jsonl: a review file of this name is given already" in err) == (1, True)
    good.write_text(good.read_text() + '\n{"question_id": ')
    code, _, err = zia_score("pairwise", "--reviews", good)
    assert (code, "a.jsonl, line 4 is not valid JSON" in err) == (1, True)


def test_the_t_interval_is_that_of_the_tables() -> None:
    assert t_interval([1.0, 3.0]) == pytest.approx((2 - 12.7062, 2 + 12.7062), abs=1e-4)
    assert t_interval([1.0, 2.0, 3.0]) == pytest.approx(
        (2 - 4.30265 / 3**0.5, 2 + 4.30265 / 3**0.5), abs=1e-4
    )
    with pytest.raises(ValueError, match="at least two values"):
        t_interval([1.0])


def test_totals_of_the_published_reviews_are_the_published_ones(
    shared_dir: Path, zia_score: Callable[..., Any]
) -> None:
    folder = shared_dir / "data/vicuna80"
    expected = json.loads((folder / "expected_review_totals.json").read_text())
    files = [folder / f"{name}.jsonl.gz" for name in expected]
    code, out, err = zia_score("pairwise", "--reviews", *files, "--json")
    assert (code, json.loads(out)) == (0, expected)
    # The text of one review says 10 to 4, its record 10 to 2; the published sum has the record's.
    assert err.splitlines()[0].endswith("(question 70): 'score' differs from the text, and counts.")


def test_the_texts_of_the_published_reviews_alone_give_the_totals_but_for_one_score(
    shared_dir: Path, zia_score: Callable[..., Any], write: Callable[[str, Any], Path]
) -> None:

    folder = shared_dir / "data/vicuna80"
    expected = json.loads((folder / "expected_review_totals.json").read_text())
    files = []
    for name in expected:
        lines = gzip.decompress((folder / f"{name}.jsonl.gz").read_bytes()).splitlines()
        bare = [{k: v for k, v in json.loads(line).items() if k != "score"} for line in lines]
        files.append(write(f"{name}.jsonl", bare))
    _, out, _ = zia_score("pairwise", "--reviews", *files, "--json")
    expected["review_llama-13b_vicuna-13b"]["sum_answer2"] += 2
    assert json.loads(out) == expected
