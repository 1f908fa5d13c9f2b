"""SQuAD's scores as an `evaluate` metric: loaded from this path, without a network."""

from typing import Any

import datasets
import evaluate

from experiments.metrics.squad.scorer import by_id, score_v1, score_v2

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
predictions: [{"id", "prediction_text"}]; references: [{"id", "answers": {"text": [...]}}]; matched
by id. version: "1.1" or "2.0". na_probs: in v2.0, {id: score of "no answer"}, for the best
thresholds. missing_is_zero: in v2.0, score questions without a prediction instead of refusing.
"""


class Squad(evaluate.Metric):
    """`compute(predictions=..., references=..., version=...)` -> scores by their official names."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        answers = {"text": datasets.List(text)}
        features = {
            "predictions": {"id": text, "prediction_text": text},
            "references": {"id": text, "answers": answers},
        }
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(features),
        )

    def _compute(
        self,
        predictions: list[dict[str, str]],
        references: list[dict[str, Any]],
        version: str,
        na_probs: dict[str, float] | None = None,
        missing_is_zero: bool = False,
    ) -> dict[str, float]:
        if version not in ("1.1", "2.0"):
            raise ValueError(f"version must be '1.1' or '2.0', not {version!r}")
        answers = by_id((row["id"], row["answers"]["text"]) for row in references)
        given = by_id((row["id"], row["prediction_text"]) for row in predictions)
        if version == "1.1":
            return score_v1(answers, given)
        return score_v2(answers, given, na_probs, missing_is_zero=missing_is_zero)
