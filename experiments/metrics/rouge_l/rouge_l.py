"""ROUGE-L as an `evaluate` metric, loaded from this path without a network."""

import datasets
import evaluate
from rouge_score import rouge_scorer

DESCRIPTION = """\
F-measure of the longest common subsequence of stemmed words (Lin, 2004), by the rouge-score
package, in [0, 1], averaged over the pairs; an empty prediction scores 0.
"""
CITATION = """\
@inproceedings{lin-2004-rouge,
  title = {{ROUGE}: A Package for Automatic Evaluation of Summaries},
  author = {Lin, Chin-Yew},
  booktitle = {Text Summarization Branches Out},
  year = {2004},
}
"""


class RougeL(evaluate.Metric):
    """`compute(predictions=[text], references=[text])` -> {"rouge_l": float}."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description="predictions, references: lists of texts of equal length",
            features=datasets.Features({"predictions": text, "references": text}),
        )

    def _compute(self, predictions: list[str], references: list[str]) -> dict[str, float]:
        if not predictions:
            raise ValueError("ROUGE-L of no predictions")
        scorer = rouge_scorer.RougeScorer(["rougeL"], use_stemmer=True)
        scores = [
            scorer.score(reference, prediction)["rougeL"].fmeasure
            for prediction, reference in zip(predictions, references, strict=True)
        ]
        return {"rouge_l": sum(scores) / len(scores)}
