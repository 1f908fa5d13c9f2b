"""Twins load through the real loaders, and take from the real model what is there."""

import json
from pathlib import Path

import pytest
import torch

from experiments.backbones import language_models, text_encoders, vision_models
from experiments.harness import plan
from experiments.harness.experiment import Models
from experiments.images import encoders
from experiments.language.tokens import prompt_ids, response_ids
from experiments.rehearsal.places import Places
from experiments.rehearsal.twins import write_twin
from experiments.scienceqa.prompts import letter_tokens
from tests.alpaca_llama.world import write_weights
from tests.backbones.tiny_models import write_causal, write_reader, write_vit
from zia_core.errors import ZiaError


@pytest.fixture
def twins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty $ZIA_WEIGHTS for twins; the real one is empty, too."""
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "real"))
    return tmp_path / "twins"


def test_llama_is_as_deep_as_the_real_one_and_comes_in_shards(
    twins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_twin("llama-7b", twins) == ""
    monkeypatch.setenv("ZIA_WEIGHTS", str(twins))
    backbone = language_models.get("llama-7b")
    model, tokenizer, weights = language_models.load(backbone, torch.bfloat16, "cpu")
    assert model.config.num_hidden_layers == backbone.layers
    assert len(weights) > 1
    assert sum(p.numel() for p in model.parameters()) < 500_000
    # As LLaMA's own: a space before a text, which a response does not get; bytes for the rest.
    (prompt,), (response,) = prompt_ids(tokenizer, ["a ß"]), response_ids(tokenizer, ["a ß"])
    assert prompt[0] == tokenizer.bos_token_id
    assert response[-1] == tokenizer.eos_token_id
    assert tokenizer.decode(prompt[1:]) == "a ß"
    assert prompt[1:] != response[:-1]
    assert len(set(letter_tokens(tokenizer)[1])) == 5  # a token for the letter of each answer


@pytest.mark.parametrize("kind", ["qwen3", "llama3", "bert", "dinov2", "timm"])
def test_a_model_of_ones_own_has_a_twin_with_its_own_files(
    tmp_path: Path, twins: Path, kind: str
) -> None:
    real = tmp_path / "mine"
    if kind in ("dinov2", "timm"):
        write_vit(real, kind, layers=2)
        experiment = "vtab_vit"
    elif kind == "bert":
        write_reader(real, kind)
        experiment = "squad_roberta"
    else:
        write_causal(real, kind, layers=2)
        experiment = "alpaca_llama"
    before = {file.name: file.read_bytes() for file in real.iterdir()}
    places = Places(tmp_path / "rehearsal")
    template = "chat" if experiment == "alpaca_llama" else None
    models, (line,) = places.twins_of(Models(str(real), template=template))
    assert line.startswith("twin: mine@sha256-")
    assert "config.json" in line
    assert {file.name: file.read_bytes() for file in real.iterdir()} == before
    twin = Path(str(models.backbone))
    assert twin.parent == places.weights
    assert models.template == template
    specs = plan.planned(experiment, "paper-rehearsal", "cpu", models)
    assert {spec.backbone.partition("@")[0] for spec in specs} == {twin.name}
    config = json.loads((twin / "config.json").read_text())
    if kind == "timm":
        assert config["model_args"]["embed_dim"] == 32
        assert vision_models.load(vision_models.get(specs[0].backbone))[0].embed_dim == 32
    else:
        assert (config["hidden_size"], config["num_hidden_layers"]) == (32, 2)
    if kind in ("qwen3", "llama3"):
        found = language_models.get(specs[0].backbone)
        _, tokenizer, _ = language_models.load(found, torch.float32, "cpu")
        assert tokenizer.chat_template
    # Again: the same twin, which is not made again.
    assert places.twins_of(Models(str(real), template=template)) == (models, [line])


def test_the_same_twin_has_the_same_weights(tmp_path: Path, twins: Path) -> None:
    again = tmp_path / "again"
    write_twin("roberta-large", twins)
    torch.manual_seed(9)
    write_twin("roberta-large", again)
    for file in twins.rglob("*.safetensors"):
        assert file.read_bytes() == (again / file.relative_to(twins)).read_bytes()


def test_a_real_configuration_and_tokenizer_are_kept(
    twins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = language_models.get("llama-7b").local
    write_weights(real)
    config = json.loads((real / "config.json").read_text())
    (real / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.25}))
    assert write_twin("llama-7b", twins) == "config.json, tokenizer"
    assert write_twin("llama-7b", twins) == "config.json, tokenizer"  # that is there already
    monkeypatch.setenv("ZIA_WEIGHTS", str(twins))
    model, tokenizer, _ = language_models.load(
        language_models.get("llama-7b"), torch.float32, "cpu"
    )
    assert model.config.rms_norm_eps == 0.25
    assert model.config.num_hidden_layers == config["num_hidden_layers"]
    assert tokenizer.bos_token_id is None  # as the real one; the small one has <s>


@pytest.mark.parametrize("name", ["roberta-large", "minilm-l6"])
def test_an_encoder_answers_questions(
    name: str, twins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_twin(name, twins)
    monkeypatch.setenv("ZIA_WEIGHTS", str(twins))
    backbone = language_models.get(name)
    model, tokenizer, _ = text_encoders.load_for_question_answering(
        backbone, torch.float32, "cpu", seed=0
    )
    assert model.config.num_hidden_layers == backbone.layers
    assert len(tokenizer("a question", "its context", return_offsets_mapping=True)["input_ids"]) > 4


def test_clip_and_timm_are_as_deep_and_read_images_of_the_real_size(
    twins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("clip-vit-l-14", vision_models.ORIGINAL.name):
        assert write_twin(name, twins) == ""
    monkeypatch.setenv("ZIA_WEIGHTS", str(twins))
    encoder = encoders.load("clip-vit-l-14")
    assert (encoder.depth, encoder.protocol.resolution) == (24, 224)
    tokens = encoder.tokens(torch.zeros(1, 3, 224, 224), (4, 24))
    assert [each.shape for each in tokens] == [(1, 257, encoder.width)] * 2
    vit, _ = vision_models.load(vision_models.ORIGINAL)
    assert len(vit.blocks) == 12
    assert vit(torch.zeros(1, 3, 224, 224)).shape == (1, vit.embed_dim)


def test_what_needs_no_twin_and_what_can_have_none(
    twins: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert write_twin("small-vit", twins) == "released"
    monkeypatch.setattr("experiments.rehearsal.twins.SHAPES", {})
    with pytest.raises(ZiaError, match=r"roberta-base is not known, so it has no twin: put its"):
        write_twin("roberta-base", twins)
    assert not any(twins.glob("[!.]*"))
