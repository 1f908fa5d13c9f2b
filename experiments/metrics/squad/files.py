"""Score SQuAD files: official references, and JSON objects by question id."""

import math
from pathlib import Path
from typing import Any

from experiments.data.files import parse_json, read_text, text_field
from experiments.metrics.squad.official import Version, answers_of, entries
from experiments.metrics.squad.scorer import score_v1, score_v2
from zia_core.errors import ZiaError


def score_files(
    predictions: Path,
    references: Path,
    version: Version,
    *,
    missing_is_zero: bool = False,
    na_prob: Path | None = None,
) -> tuple[dict[str, float], list[str]]:
    """Return the scores by their official names, and remarks on ids that do not match.

    `missing_is_zero` and `na_prob` are for version 2.0. ZiaError as from the readers and
    `score_v2`.
    """
    answers = read_references(references, version)
    given = read_predictions(predictions)
    probs = None if na_prob is None else read_na_probs(na_prob)
    try:
        if version == "1.1":
            scores = score_v1(answers, given)
        else:
            scores = score_v2(answers, given, probs, missing_is_zero=missing_is_zero)
    except ZiaError as error:
        raise ZiaError(f"{predictions}: {error}") from error
    remarks = []
    if absent := len(answers.keys() - given.keys()):
        remarks.append(f"{absent:,} of {len(answers):,} questions have no prediction and score 0.")
    if unknown := len(given.keys() - answers.keys()):
        remarks.append(f"{unknown:,} of {len(given):,} predictions have an unknown id: ignored.")
    return scores, remarks


def read_references(path: Path, version: Version) -> dict[str, list[str]]:
    """Return the right answers to every question, in the file's order; [] if unanswerable.

    ZiaError as from `entries`, and in version 1.1 for a question without an answer.
    """
    references = {}
    for entry in entries(path, version):
        texts = [answer["text"] for answer in answers_of(entry)]
        if not texts and version == "1.1":
            raise ZiaError(
                f"{entry.where} has no answer, which only SQuAD 2.0 allows: "
                "give the file as version 2.0"
            )
        references[entry.id] = texts
    return references


def read_predictions(path: Path) -> dict[str, str]:
    """Return answers by question id; ZiaError unless the file is {"id": "text", ...}."""
    given = _by_id(path, "answer")
    return {question: text_field(given, question, str(path)) for question in given}


def read_na_probs(path: Path) -> dict[str, float]:
    """Return scores of "no answer" by question id; ZiaError unless all are finite numbers."""
    given = _by_id(path, "number")
    for question, value in given.items():
        if type(value) not in (int, float) or not math.isfinite(value):
            raise ZiaError(f"{path}: {question!r} must be a finite number, not {value!r:.60}")
    return given


def _by_id(path: Path, what: str) -> dict[str, Any]:
    value = parse_json(read_text(path), str(path))
    if not isinstance(value, dict):
        raise ZiaError(f"{path} must be one JSON object {{question id: {what}}}")
    return value
