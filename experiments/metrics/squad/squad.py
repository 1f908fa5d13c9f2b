"""SQuAD's scores as an `evaluate` metric, loaded from this path without a network."""

import math
from typing import Any

import datasets
import evaluate

from experiments.data.files import text_field
from experiments.metrics import rows
from experiments.metrics.squad.official import VERSIONS
from experiments.metrics.squad.scorer import by_id, score_v1, score_v2
from zia_core.errors import ZiaError

DESCRIPTION = """\
Exact match and F1 of SQuAD v1.1 and v2.0 by the rules of the official scripts, in percent, under
their names; in v2.0 for questions with an answer (HasAns_) and without (NoAns_) too.
"""
CITATION = """\
@inproceedings{rajpurkar-2018-squad,
  title = {Know What You Don't Know: Unanswerable Questions for {SQuAD}},
  author = {Rajpurkar, Pranav and Jia, Robin and Liang, Percy},
  booktitle = {Proceedings of the 56th Annual Meeting of the ACL},
  year = {2018},
}
"""
INPUTS = """\
predictions: [{"id", "prediction_text"}]; references: [{"id", "answers"}], answers being
{"text": [...]} as in the hub's data sets or [{"text": ...}] as in the official files; matched by
id. Other fields are not read, but for "no_answer_probability" of predictions, in version 2.0 only.

version: "1.1" or "2.0"; default: what the configuration's name says, else "1.1". na_probs: in 2.0,
{id: score of "no answer"} if the predictions do not have it, for the best thresholds.
missing_is_zero: in 2.0, score questions without a prediction instead of refusing.
"""
# By configuration: evaluate.load(PATH, "squad_v2"). As on the hub, `squad` is 1.1.
CONFIGURED = dict.fromkeys(("default", "squad", "v1.1", "1.1"), "1.1")
CONFIGURED |= dict.fromkeys(("squad_v2", "v2", "v2.0", "2.0"), "2.0")
PROBABILITY = "no_answer_probability"


class Squad(rows.RowMetric):
    """`compute(predictions=..., references=..., version=...)` -> scores by their official names."""

    def _info(self) -> evaluate.MetricInfo:
        if self.config_name not in CONFIGURED:
            raise ZiaError(
                f"SQuAD has no version {self.config_name!r:.60}: "
                f"choose from {', '.join(CONFIGURED)}"
            )
        text = datasets.Value("string")
        prediction = {
            "id": text,
            "prediction_text": text,
            PROBABILITY: datasets.Value("float64"),
        }
        references = {"id": text, "answers": {"text": datasets.List(text)}}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": prediction, "references": references}),
        )

    def prediction(self, row: Any, where: str) -> dict[str, Any]:
        """Return id, text and, if given, the score of "no answer"."""
        texts = {name: text_field(row, name, where) for name in ("id", "prediction_text")}
        score = row.get(PROBABILITY)
        if score is not None and not (type(score) in (int, float) and math.isfinite(score)):
            raise ZiaError(f"{where}: {PROBABILITY!r} must be a finite number, not {score!r:.60}")
        return {**texts, PROBABILITY: score}

    def reference(self, row: Any, where: str) -> dict[str, Any]:
        """Return the id and the answers' texts."""
        identity, answers = text_field(row, "id", where), row.get("answers")
        texts: Any
        if isinstance(answers, list):
            texts = [text_field(answer, "text", f"{where}, answers") for answer in answers]
        else:
            texts = answers.get("text") if isinstance(answers, dict) else None
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            raise ZiaError(f"{where}: 'answers' must have a list of texts, 'text': repair it")
        return {"id": identity, "answers": {"text": texts}}

    def _compute(
        self,
        predictions: list[dict[str, Any]],
        references: list[dict[str, Any]],
        version: str | None = None,
        na_probs: dict[str, float] | None = None,
        missing_is_zero: bool = False,
    ) -> dict[str, float]:
        version = version or CONFIGURED[self.config_name]
        if version not in VERSIONS:
            raise ValueError(f"version must be '1.1' or '2.0', not {version!r}")
        answers = by_id((row["id"], row["answers"]["text"]) for row in references)
        given = by_id((row["id"], row["prediction_text"]) for row in predictions)
        if version == "1.1":
            if na_probs is not None:
                raise ZiaError("version 1.1 has no unanswerable questions: leave na_probs out")
            return score_v1(answers, given)
        own = {row["id"]: row[PROBABILITY] for row in predictions if row[PROBABILITY] is not None}
        if own and na_probs is not None:
            raise ZiaError(f"{PROBABILITY!r} and na_probs are both given: give one of them")
        return score_v2(answers, given, na_probs or own or None, missing_is_zero=missing_is_zero)
