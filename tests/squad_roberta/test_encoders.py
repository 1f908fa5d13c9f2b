"""Loading an encoder with a new head."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import BertForQuestionAnswering, PreTrainedModel

from experiments.backbones import language_models
from experiments.backbones.text_encoders import load_for_question_answering
from tests.squad_roberta import tiny
from zia_core.errors import ZiaError


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    return tmp_path


def loaded(name: str = tiny.BERT, seed: int = 3, dropout: float | None = None) -> PreTrainedModel:
    backbone = language_models.get(name)
    return load_for_question_answering(
        backbone, torch.float32, "cpu", seed=seed, hidden_dropout=dropout
    )[0]


@pytest.mark.parametrize(
    ("name", "write"), [(tiny.BERT, tiny.write_bert), (tiny.ROBERTA, tiny.write_roberta)]
)
def test_the_encoder_is_the_file_s_and_the_head_the_seed_s(
    folder: Path, name: str, write: Callable[[Path], None]
) -> None:
    write(folder / name)
    model = loaded(name)
    stored = load_file(folder / name / "model.safetensors")
    embedding = next(tensor for key, tensor in stored.items() if "word_embeddings" in key)
    assert torch.equal(model.get_input_embeddings().weight, embedding)
    torch.manual_seed(99)  # whatever else was drawn before
    again, other = loaded(name), loaded(name, seed=4)
    assert torch.equal(model.qa_outputs.weight, again.qa_outputs.weight)
    assert not torch.equal(model.qa_outputs.weight, other.qa_outputs.weight)
    assert model.qa_outputs.bias.abs().max() == 0
    assert 0.1 < model.qa_outputs.weight.std() < 0.2
    assert not model.training


def test_a_head_in_the_file_is_not_used(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny.write_bert(folder / tiny.BERT)
    bare, with_head = loaded(), folder / "other" / tiny.BERT
    shutil.copytree(folder / tiny.BERT, with_head)
    BertForQuestionAnswering(bare.config).save_pretrained(with_head)
    monkeypatch.setenv("ZIA_WEIGHTS", str(folder / "other"))
    assert torch.equal(loaded().qa_outputs.weight, bare.qa_outputs.weight)


def test_dropout_on_hidden_states(folder: Path) -> None:
    tiny.write_bert(folder / tiny.BERT)
    own, other = loaded().config, loaded(dropout=0.2).config
    assert (own.hidden_dropout_prob, other.hidden_dropout_prob) == (0.1, 0.2)


@pytest.mark.parametrize(
    ("shape", "fault"),
    [
        ({"num_hidden_layers": 1}, r"has too much: encoder\.layer\.1\S+ and 15 more"),
        ({"num_hidden_layers": 3}, r"lacks: \S*encoder\.layer\.2\S+ and 15 more"),
        ({"intermediate_size": 40}, r"has in another shape: \S+ and 5 more"),
    ],
)
def test_the_weights_of_another_encoder_are_refused(
    folder: Path, shape: dict[str, int], fault: str
) -> None:
    tiny.write_bert(folder / tiny.BERT)
    weights = (folder / tiny.BERT / "model.safetensors").read_bytes()
    tiny.write_bert(folder / tiny.BERT, **shape)
    (folder / tiny.BERT / "model.safetensors").write_bytes(weights)
    with pytest.raises(ZiaError, match=rf"minilm-l6 are not those .* {fault}; run `make minilm`"):
        loaded()


def test_missing_and_damaged_weights(folder: Path) -> None:
    with pytest.raises(ZiaError, match=r"no weights of minilm-l6: .*reached .*; run `make minilm`"):
        loaded()
    with pytest.raises(ZiaError, match=r"no weights of roberta-large: .*FacebookAI/roberta-large"):
        loaded("roberta-large")
    tiny.write_bert(folder / tiny.BERT)
    weights = folder / tiny.BERT / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(weights).items()}
    weights.write_bytes(weights.read_bytes()[:5000])
    with pytest.raises(ZiaError, match=r"minilm-l6 in .* cannot be loaded"):
        loaded()
    save_file({k: v for k, v in tensors.items() if "layer.0.output" not in k}, weights)
    with pytest.raises(ZiaError, match=r"lacks: .*layer\.0\.output"):
        loaded()
