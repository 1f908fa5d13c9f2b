"""The scores of answers written by hand, against classes counted by hand."""

from dataclasses import replace
from pathlib import Path

import pytest

from experiments.scienceqa.data import Problem
from experiments.scienceqa.evaluate import BASELINES, SCORES, baselines, scores


def problem(
    pid: str, answer: int, subject: str, grade: int, *, hint: str = "", image: bool = False
) -> Problem:
    choices = ("trout", "otter", "newt")
    record = {
        "question": "Which?", "choices": list(choices), "answer": answer, "hint": hint,
        "image": "image.png" if image else None, "subject": f"{subject} science",
        "topic": "biology", "grade": f"grade{grade}", "split": "test",
    }  # fmt: skip
    path = Path("image.png") if image else None
    return Problem(pid, "Which?", choices, answer, hint, path, "test", record)


def test_scores_by_hand() -> None:
    """Greedy: right, wrong, right, unparsable, unparsable. Likelihood: all but the first right."""
    problems = [
        problem("1", 1, "natural", 2, hint="It swims.", image=True),
        problem("2", 0, "natural", 6, image=True),
        problem("3", 2, "language", 7),
        problem("4", 1, "natural", 12, hint="It swims."),
        problem("5", 0, "language", 1),
    ]
    answers = {
        "1": ("The answer is B.", 0),
        "2": ("The answer is C.", 0),
        "3": ("The answer is C.", 2),
        "4": ("B", 1),
        "5": ("The answer is A. The answer is B.", 0),
    }
    given = {pid: {"output": text, "likeliest": place} for pid, (text, place) in answers.items()}
    found = scores(problems, given)
    assert found.keys() == SCORES.keys()
    expected = {
        "acc_natural": 100 / 3,  # 1 of 1, 2, 4
        "acc_social": None,
        "acc_language": 50.0,  # 3 of 3, 5
        "acc_has_text": 50.0,  # 1 of 1, 4
        "acc_has_image": 50.0,  # 1 of 1, 2
        "acc_no_context": 50.0,  # 3 of 3, 5
        "acc_grade_1_6": 100 / 3,  # 1 of 1, 2, 5
        "acc_grade_7_12": 50.0,  # 3 of 3, 4
        "acc_average": 40.0,
        "likelihood_accuracy": 80.0,
    }
    for name, value in expected.items():
        assert found[name] == (None if value is None else pytest.approx(value)), name
    counts = ("correct", "questions", "unparsable", "image_questions")
    assert [found[name] for name in counts] == [2, 5, 2, 2]


def test_an_option_that_a_question_has_not_is_no_answer() -> None:
    found = scores(
        [problem("1", 0, "natural", 2)], {"1": {"output": "The answer is D.", "likeliest": 0}}
    )
    assert (found["correct"], found["unparsable"], found["likelihood_accuracy"]) == (0, 1, 100.0)


def test_baselines_by_hand() -> None:
    """In training B is right twice and A once; of three options a random one is right in 1 of 3."""
    train = [problem(str(i), answer, "natural", 1) for i, answer in enumerate((1, 0, 1))]
    asked = [problem(str(i), i % 3, "natural", 1, image=i > 2) for i in range(4)]
    two = replace(asked[0], choices=("trout", "otter"), answer=1)  # B, of two options
    found = baselines(train, [*reversed(asked[1:]), two])
    assert found.keys() == BASELINES.keys()
    assert found["chance_accuracy"] == pytest.approx((50 + 3 * 100 / 3) / 4)
    assert found["chance_has_image"] == pytest.approx(100 / 3)
    assert found["majority_accuracy"] == 50.0  # B is right in two of four
    assert baselines(train, asked[:2])["chance_has_image"] is None
