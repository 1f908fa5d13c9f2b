"""COCO's caption scores as an `evaluate` metric: loaded from this path, without a network."""

import datasets
import evaluate

from experiments.metrics.coco.ptb import tokenize
from experiments.metrics.coco.scorer import score

DESCRIPTION = """\
BLEU-1 to BLEU-4, ROUGE-L and CIDEr-D of captions, by the rules and under the names of the official
COCO scorer: Bleu_n and ROUGE_L in [0, 1], CIDEr in [0, 10] (papers print it times 100).
"""
CITATION = """\
@article{chen-2015-microsoft,
  title = {Microsoft {COCO} Captions: Data Collection and Evaluation Server},
  author = {Chen, Xinlei and Fang, Hao and Lin, Tsung-Yi and Vedantam, Ramakrishna and
            Gupta, Saurabh and Dollar, Piotr and Zitnick, C. Lawrence},
  journal = {arXiv preprint arXiv:1504.00325},
  year = {2015},
}
"""
INPUTS = """\
predictions: one caption an image; references: the list of the same image's reference captions. Both
as people write them: they are tokenised here.
"""


class Coco(evaluate.Metric):
    """`compute(predictions=[caption], references=[[caption]])` -> scores by official names."""

    def _info(self) -> evaluate.MetricInfo:
        text = datasets.Value("string")
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features({"predictions": text, "references": datasets.List(text)}),
        )

    def _compute(self, predictions: list[str], references: list[list[str]]) -> dict[str, float]:
        return score(
            [tokenize(caption) for caption in predictions],
            [[tokenize(text) for text in texts] for texts in references],
        )
