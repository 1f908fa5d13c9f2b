"""Encoders that are not in the project's list: whole runs, padding, dropout, and their heads."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor
from transformers import AutoModelForSequenceClassification, ModernBertConfig, ModernBertModel

from experiments.backbones import language_models, own, text_encoders
from experiments.backbones.text_encoders import load_for_question_answering
from experiments.dispatch.in_process import run_one
from experiments.harness import stored, verify
from experiments.squad_roberta import methods, plan
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.task import span_logits
from experiments.squad_roberta.windows import frame_of
from tests.backbones.tiny_models import READERS, SIZES, write_reader
from tests.squad_roberta import tiny
from zia_core.errors import ZiaError

WITH_TYPES = {"bert", "roberta", "electra"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        tiny.prepare(folder, patch)
        patch.setattr(own, "_folders", {})
        for kind in READERS:
            write_reader(folder / kind, kind, layers=3, positions=160, initializer_range=0.3)
        yield folder


def loaded(root: Path, kind: str, dropout: float | None = None) -> tuple[Any, Any]:
    backbone = language_models.get(text_encoders.reader(str(root / kind)))
    return load_for_question_answering(
        backbone, torch.float64, "cpu", seed=3, hidden_dropout=dropout
    )[:2]


RUNS = [("modernbert", method) for method in plan.METHODS] + [
    (kind, "zero-init") for kind in READERS if kind != "modernbert"
]


@pytest.mark.parametrize(("kind", "method"), RUNS)
def test_a_run_is_done_and_verified(root: Path, kind: str, method: str) -> None:
    backbone = text_encoders.reader(str(root / kind))
    spec = tiny.spec(method, plan.V2, backbone, hidden_dropout=0.1)
    outcome = run_one(spec, root / "runs")
    assert outcome.state == "done", outcome.reason
    run = stored.load(root / "runs" / spec.experiment / spec.folder_name)
    assert run.result["val_loss"] != run.result["val_loss_start"]
    assert {finding.outcome for finding in verify.verify(run.path)} == {"ok"}
    width, layers = SIZES["hidden_size"], 3
    tuned = {
        "head": 0,
        "prompt-tuning": tiny.PROMPTS * width,
        "lora": layers * 2 * 2 * 8 * width,
        "p-tuning-v2": layers * 2 * tiny.PROMPTS * width,
        "zero-init": layers * (2 * tiny.PROMPTS * width + 2),  # two heads' gates
    }
    if method != "full":
        assert run.result["tuned_parameters"] == tuned[method] + 2 * width + 2


def logits(model: Any, types: bool, ids: list[int], padding: int) -> Tensor:
    """Of a window beside a longer one."""
    window = torch.tensor([*ids, *[2] * padding])
    longer = torch.arange(len(window)) % 200 + 5
    batch = {"input_ids": torch.stack([window, longer])}
    batch["attention_mask"] = torch.ones_like(batch["input_ids"])
    batch["attention_mask"][0, len(ids) :] = 0
    if types:
        batch["token_type_ids"] = (torch.arange(len(window)) > 3).long().expand(2, -1)
    return torch.stack(span_logits(model, batch))[:, 0, : len(ids)]


@pytest.mark.parametrize("kind", READERS)
@pytest.mark.parametrize("method", plan.METHODS)
def test_answers_do_not_depend_on_padding(root: Path, kind: str, method: str) -> None:
    model, tokenizer = loaded(root, kind)
    adapted = methods.prepare(model, method, Settings(prompt_length=3)).eval()
    with torch.no_grad():
        for parameter in adapted.parameters():
            if parameter.requires_grad:  # gates and LoRA's B begin at zero
                parameter.add_(0.3 * torch.randn_like(parameter))
        types = frame_of(tokenizer).types != (0, 0)
        assert types == (kind in WITH_TYPES)
        ids = [0, *range(40, 49), 1]
        alone, padded = (logits(adapted, types, ids, padding) for padding in (0, 40))
    assert alone.isfinite().all()
    assert alone.std() > 0.01
    torch.testing.assert_close(padded, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("kind", READERS)
def test_dropout_and_head_are_set(root: Path, kind: str) -> None:
    model, _ = loaded(root, kind, dropout=0.37)
    rates = [module.p for module in model.modules() if isinstance(module, torch.nn.Dropout)]
    assert rates.count(0.37) >= 1 + 3  # of the embeddings, and one or more of each layer
    assert model.train()(input_ids=torch.tensor([[0, 5, 6, 1]])).start_logits.isfinite().all()
    head = model.classifier if kind == "modernbert" else model.qa_outputs
    again = loaded(root, kind)[0]
    other = again.classifier if kind == "modernbert" else again.qa_outputs
    assert torch.equal(head.weight, other.weight)
    assert 0.2 < head.weight.std() < 0.4
    assert head.bias.abs().max() == 0


def test_modernbert_keeps_its_pretrained_prediction_head(root: Path, tmp_path: Path) -> None:
    stored_weights = load_file(root / "modernbert" / "model.safetensors")
    model, _ = loaded(root, "modernbert")
    assert torch.equal(model.head.dense.weight, stored_weights["head.dense.weight"].double())
    config = ModernBertConfig(**SIZES, num_hidden_layers=3, pad_token_id=2)
    write_reader(tmp_path / "bare", "modernbert", layers=3)
    ModernBertModel(config).save_pretrained(tmp_path / "bare")
    with pytest.raises(ZiaError, match=r"lacks the prediction head .*take the masked language m"):
        loaded(tmp_path, "bare")


def test_the_head_of_a_classifier_is_left_behind(tmp_path: Path) -> None:
    for kind in ("distilbert", "modernbert", "roberta", "electra"):
        write_reader(tmp_path / kind, kind)
        classifier = AutoModelForSequenceClassification.from_pretrained(
            tmp_path / kind, num_labels=3
        )
        classifier.save_pretrained(tmp_path / kind)
        model, _ = loaded(tmp_path, kind)
        assert model(input_ids=torch.tensor([[0, 5, 1]])).end_logits.shape == (1, 3)
