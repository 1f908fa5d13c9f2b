"""Answers end at the tokens they are told to end at."""

from pathlib import Path

import torch

from experiments.backbones import language_models
from experiments.language.answers import answers
from experiments.language.examples import Example, Examples
from tests.backbones.tiny_models import write_causal


def test_an_answer_ends_at_the_end_of_a_turn(tmp_path: Path) -> None:
    name = language_models.causal(str(write_causal(tmp_path / "model")))
    model, tokenizer, _ = language_models.load(name, torch.float32, "cpu")
    asked = Examples([Example("0", [5, 9, 30], []), Example("1", [7], [])])
    whole = list(answers(model, tokenizer, asked, 2, max_new_tokens=8, do_sample=False))
    (ids,) = (tokenizer(text, add_special_tokens=False)["input_ids"] for text in whole[:1])
    end = next(i for i in ids[1:] if i != ids[0])
    options = {"max_new_tokens": 8, "do_sample": False}
    cut = list(answers(model, tokenizer, asked, 2, [end, 1], **options))
    assert cut[0] == tokenizer.decode(ids[: ids.index(end) + 1]).strip() != whole[0]
