"""ScienceQA's accuracies as an `evaluate` metric, loaded from this path without a network."""

from typing import Any

import datasets
import evaluate

from experiments.data.files import text_field
from experiments.metrics import rows
from experiments.metrics.scienceqa.files import question_of
from experiments.metrics.scienceqa.scorer import parse_answer, score
from zia_core.errors import ZiaError

DESCRIPTION = """\
Accuracy on ScienceQA in percent, by the official classes (acc_natural ... acc_grade_7_12) and
topics, and on average (acc_average). An output must say "The answer is X." once; one that does not
counts as wrong, and `unparsable` is their number.
"""
CITATION = """\
@inproceedings{lu-2022-learn,
  title = {Learn to Explain: Multimodal Reasoning via Thought Chains for Science Question
           Answering},
  author = {Lu, Pan and Mishra, Swaroop and Xia, Tony and Qiu, Liang and Chang, Kai-Wei and
            Zhu, Song-Chun and Tafjord, Oyvind and Clark, Peter and Kalyan, Ashwin},
  booktitle = {Advances in Neural Information Processing Systems},
  year = {2022},
}
"""
INPUTS = """\
predictions: the output texts; references: the official problems, in the same order, as they are in
problems.json or as a data set of the hub has them: choices, answer, hint, image, grade, subject and
topic are read. image is a file's name, an image, or null.
"""
TEXTS = ("hint", "image", "grade", "subject", "topic")


class ScienceQA(rows.RowMetric):
    """`compute(predictions=[output], references=[problem])` -> scores by their official names."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        problem = dict.fromkeys(TEXTS, text)
        problem |= {"choices": datasets.List(text), "answer": datasets.Value("int64")}
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": problem}),
        )

    def prediction(self, row: Any, where: str) -> str:
        """Return the output, a text."""
        if not isinstance(row, str):
            raise ZiaError(f"{where} must be the output, a text, not {row!r:.60}")
        return row

    def reference(self, row: Any, where: str) -> dict[str, Any]:
        """Return the fields of a problem that are read; without an image, its name is empty."""
        text_field(row, "subject", where)  # checks that the row is an object
        problem = {**row, "image": _name(row.get("image"))}
        question_of(problem, where)
        return {name: problem[name] for name in (*TEXTS, "choices", "answer")}

    def _compute(
        self, predictions: list[str], references: list[dict[str, Any]]
    ) -> dict[str, float]:
        questions = {
            str(place): question_of(problem, f"reference {place}")
            for place, problem in enumerate(references)
        }
        outputs = {str(place): output for place, output in enumerate(predictions)}
        return score(
            questions,
            {pid: parse_answer(outputs[pid], q.choices) for pid, q in questions.items()},
        )


def _name(image: Any) -> Any:
    """A name for a data set's image, opened or {"bytes", "path"}; "" for none."""
    opened = hasattr(image, "getbands") or (isinstance(image, dict) and "bytes" in image)
    return "image" if opened else "" if image is None else image
