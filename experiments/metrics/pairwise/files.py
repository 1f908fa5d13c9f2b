"""Read review files in Vicuna-80's format, one JSON object per line.

{"question_id": 1, "answer1_id": ..., "answer2_id": ..., "text": the judge's words, "score": [7, 9]}
"""

import json
import math
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from experiments.data.files import parse_json, read_text, text_field
from experiments.metrics.pairwise.scorer import Scores, both_orders, totals
from zia_core.errors import ZiaError

NUMBER = r"\d+(?:\.\d+)?"
FAILED = [-1, -1]  # stored by the judging script if it found no scores in the text

Result = dict[str, Any]


class Review(NamedTuple):
    """One line of a review file; `where` names it in messages."""

    where: str
    question: str
    answers: tuple[str, str]  # ids, in the order in which the judge saw them
    scores: Scores
    differs: bool  # whether the text has other scores than the record


def score_files(paths: Sequence[Path]) -> tuple[dict[str, Result], list[str]]:
    """Return totals by file, and remarks.

    If a file's questions are also reviewed in the other order, in the same or a later file, its
    totals include "both_orders". ZiaError as from `read_reviews`, for a repeated file, and for two
    reviews of a question in the same order.
    """
    names = {path: _name(path) for path in paths}
    for place, path in enumerate(paths):
        if _name(path) in map(_name, paths[:place]):
            raise ZiaError(f"{path}: a review file of this name is given already: give each once")
    seen: dict[tuple[str, tuple[str, str]], tuple[Path, Review]] = {}
    pairs: dict[Path, list[tuple[Scores, Scores]]] = {}
    results: dict[str, Result] = {}
    remarks = []
    for path in paths:
        reviews = read_reviews(path)
        results[names[path]] = dict(totals([review.scores for review in reviews]))
        for review in reviews:
            key = review.question, review.answers
            if key in seen:
                raise ZiaError(
                    f"{review.where} reviews what {seen[key][1].where} does, in the same order: "
                    "keep one"
                )
            seen[key] = path, review
            if swapped := seen.get((review.question, review.answers[::-1])):
                pairs.setdefault(swapped[0], []).append((swapped[1].scores, review.scores))
            if review.differs:
                remarks.append(f"{review.where}: 'score' differs from the text, and counts.")
    for path, of_path in pairs.items():
        results[names[path]]["both_orders"] = both_orders(of_path)
        if len(of_path) == 1:
            remarks.append(
                f"{path}: one question is reviewed in both orders: its bias has no interval."
            )
    if not pairs:
        remarks.append("No question is reviewed in both orders: the position bias is unknown.")
    return results, remarks


def read_reviews(path: Path) -> list[Review]:
    """Return the reviews in a file; ZiaError, naming the line, for an invalid one."""
    # Not splitlines(), which also splits at characters that JSON strings may contain.
    lines = enumerate(read_text(path).split("\n"), 1)
    return [_review(line, f"{path}, line {number}") for number, line in lines if line.strip()]


def parse_scores(text: str) -> Scores | None:
    """Return the two scores in a judge's text; None if there are none.

    They should be the first line, "7 9" or "7, 9". Texts that end with the verdict (on questions in
    mathematics) have them in the last line, "(7, 9)", or in the last lines that start with
    "Assistant 1: 7" and "Assistant 2: 9".
    """
    lines = text.strip().splitlines() or [""]
    found = re.fullmatch(rf"({NUMBER})[,\s]+({NUMBER})", lines[0].strip())
    found = found or re.search(rf"\(\s*({NUMBER})\s*,\s*({NUMBER})\s*\)", lines[-1])
    if found:
        return Scores(float(found[1]), float(found[2]))
    each = [re.findall(rf"(?m)^Assistant {k}:\s*({NUMBER})\b(?!\.)", text) for k in (1, 2)]
    return Scores(float(each[0][-1]), float(each[1][-1])) if all(each) else None


def _review(line: str, where: str) -> Review:
    record = parse_json(line, where)
    answers = text_field(record, "answer1_id", where), text_field(record, "answer2_id", where)
    question = record.get("question_id")
    if isinstance(question, bool) or not isinstance(question, int | str):
        raise ZiaError(f"{where} has no 'question_id': it needs one, a number or a text")
    where = f"{where} (question {question})"
    if answers[0] == answers[1]:
        raise ZiaError(f"{where} compares the answer {answers[0]!r} with itself: drop it")
    said = parse_scores(text_field(record, "text", where)) if "text" in record else None
    stored = record.get("score", FAILED)
    if stored == FAILED:
        if said is None:
            raise ZiaError(f"{where} has no scores: give it 'score': [first, second], or drop it")
        return Review(where, str(question), answers, said, differs=False)
    if not (
        isinstance(stored, list)
        and len(stored) == 2
        and all(type(s) in (int, float) and math.isfinite(s) and s >= 0 for s in stored)
    ):
        raise ZiaError(
            f"{where}: 'score' must be two numbers of at least 0, not {json.dumps(stored):.60}"
        )
    scores = Scores(float(stored[0]), float(stored[1]))
    return Review(where, str(question), answers, scores, differs=said not in (None, scores))


def _name(path: Path) -> str:
    return path.name.removesuffix(".gz").removesuffix(".jsonl")
