"""COCO's caption scores as an `evaluate` metric, loaded from this path without a network."""

import warnings
from typing import Any

import datasets
import evaluate

from experiments.data.files import text_field
from experiments.metrics import rows
from experiments.metrics.coco.files import image_id
from experiments.metrics.coco.ptb import tokenize
from experiments.metrics.coco.scorer import degenerate, score
from zia_core.errors import ZiaError

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
predictions: one caption an image, a text or a row {"image_id", "caption"} of a results file;
references: the list of the image's reference captions, texts or rows of an annotations file. With
texts, references[i] are those of predictions[i]; rows are matched by image_id, in any order. Other
fields are not read. Captions are as people write them: they are tokenised here.
"""
Caption = dict[str, str]  # `caption` and `image_id`; the latter is empty for a text


class Coco(rows.RowMetric):
    """`compute(predictions=[caption], references=[[caption]])` -> scores by official names."""

    def _info(self) -> evaluate.MetricInfo:
        caption = dict.fromkeys(("image_id", "caption"), datasets.Value("string"))
        return evaluate.MetricInfo(
            description=DESCRIPTION,
            citation=CITATION,
            inputs_description=INPUTS,
            features=datasets.Features(
                {"predictions": caption, "references": datasets.List(caption)}
            ),
        )

    def prediction(self, row: Any, where: str) -> Caption:
        """Return the caption and, for a row, the image's id."""
        if isinstance(row, str):
            return {"image_id": "", "caption": row}
        caption = text_field(row, "caption", where)
        return {"image_id": str(image_id(row, "image_id", where)), "caption": caption}

    def reference(self, row: Any, where: str) -> list[Caption]:
        """Return an image's captions, at least one."""
        if isinstance(row, str | dict) or not row:
            raise ZiaError(f"{where} must be a list of an image's captions: give at least one")
        return [self.prediction(each, f"{where}, caption {i}") for i, each in enumerate(row)]

    def _compute(
        self, predictions: list[Caption], references: list[list[Caption]]
    ) -> dict[str, float]:
        captions = [each for listed in references for each in listed]
        named = {bool(each["image_id"]) for each in (*predictions, *captions)}
        if len(named) > 1:
            raise ZiaError("only some captions are rows with an image_id: give texts or rows only")
        right: dict[str, list[str]] = {}
        for place, listed in enumerate(references):
            for each in listed:
                right.setdefault(_image(each, place), []).append(tokenize(each["caption"]))
        written: dict[str, str] = {}
        for place, each in enumerate(predictions):
            image = _image(each, place)
            if image in written or image not in right:
                fault = "comes twice" if image in written else "has no reference caption"
                raise ZiaError(f"prediction {place}: the image {image} {fault}: repair the rows")
            written[image] = tokenize(each["caption"])
        scored = list(written.values()), [right[image] for image in written]
        found = score(*scored)
        for remark in degenerate(*scored):
            warnings.warn(remark, stacklevel=2)
        return found


def _image(row: Caption, place: int) -> str:
    return row["image_id"] or str(place)
