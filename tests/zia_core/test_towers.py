"""Models with several towers: one is adapted, all of the model is frozen, saved and loaded."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPVisionConfig,
    LlamaConfig,
    LlavaConfig,
    LlavaForConditionalGeneration,
)

from tests.zia_core.backbones import LANGUAGE, VISION, build, open_gates
from zia_core import (
    ZeroInitConfig,
    ZiaError,
    add,
    attach,
    detach,
    load_adapter,
    save_adapter,
    use,
    zero_init_layers,
)
from zia_core.families import attention_layers

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)
IMAGE = 60  # the token that stands for a patch
PATCHES = 16


def llava() -> Any:
    torch.manual_seed(0)
    config = LlavaConfig(
        vision_config=CLIPVisionConfig(**VISION, projection_dim=48),
        text_config=LlamaConfig(**LANGUAGE, num_key_value_heads=2),
        image_token_index=IMAGE,
        vision_feature_layer=-1,
    )
    model = LlavaForConditionalGeneration(config).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(5)
    return model


def clip() -> Any:
    torch.manual_seed(0)
    text = {**LANGUAGE, "eos_token_id": 2}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=VISION, projection_dim=16)).eval()


def pictures() -> dict[str, Tensor]:
    """Two prompts that each have an image."""
    generator = torch.Generator().manual_seed(1)
    words = torch.randint(3, IMAGE, (2, 6), generator=generator)
    before, after = words[:, :2], words[:, 2:]
    ids = torch.cat([before, torch.full((2, PATCHES), IMAGE), after], dim=1)
    return {"input_ids": ids, "pixel_values": torch.randn(2, 3, 16, 16, generator=generator)}


def logits(model: Any) -> Tensor:
    return model(**pictures()).logits


def embeddings(model: Any) -> tuple[Tensor, Tensor]:
    """Of CLIP: texts, images."""
    batch = {"input_ids": torch.arange(3, 15).view(2, 6)} | {
        "pixel_values": pictures()["pixel_values"]
    }
    found = model(**batch)
    return found.text_embeds, found.image_embeds


@torch.no_grad()
def test_llava_is_adapted_as_a_whole() -> None:
    bare = llava()
    plain = logits(bare)
    model = attach(llava(), CONFIG, tower="language_model")
    assert torch.equal(logits(model), plain)
    trained = [name for name, p in model.named_parameters() if p.requires_grad]
    assert len(trained) == 4
    assert all(name.startswith("model.language_model.layers.") for name in trained)
    open_gates(model)
    found = logits(model)
    inside = llava()
    open_gates(attach(inside.model.language_model, CONFIG))
    assert torch.equal(found, logits(inside))
    assert not torch.allclose(found, plain, atol=1e-3)
    assert torch.equal(logits(detach(model)), plain)
    assert all(parameter.requires_grad for parameter in model.parameters())


@torch.no_grad()
def test_llava_generates_with_its_adapter() -> None:
    model = open_gates(attach(llava(), CONFIG, tower="language_model"))
    options = {"max_new_tokens": 5, "do_sample": False, "eos_token_id": None}
    found = model.generate(**pictures(), **options)
    batch = pictures()
    for _ in range(5):
        token = model(**batch, use_cache=False).logits[:, -1].argmax(-1, keepdim=True)
        batch["input_ids"] = torch.cat([batch["input_ids"], token], dim=1)
    assert torch.equal(found, batch["input_ids"])
    assert not torch.equal(found, llava().generate(**pictures(), **options))


@torch.no_grad()
def test_the_file_is_of_the_whole_model_and_names_the_tower(tmp_path: Path) -> None:
    model = open_gates(attach(llava(), CONFIG, tower="language_model"))
    expected = logits(model)
    path = save_adapter(model, tmp_path / "bare")
    compiled = torch.compile(model, backend="eager")
    assert save_adapter(compiled, tmp_path / "compiled").read_bytes() == path.read_bytes()
    assert torch.equal(logits(load_adapter(llava(), path)), expected)
    model.model.language_model = torch.compile(model.model.language_model, backend="eager")
    assert save_adapter(model, tmp_path / "inside").read_bytes() == path.read_bytes()
    other = llava()
    other.model.vision_tower.embeddings.class_embedding.add_(1)
    with pytest.raises(ZiaError, match="different: weights"):
        load_adapter(other, path)
    assert not zero_init_layers(other)
    seeing = attach(llava(), CONFIG, tower="vision_tower")
    with pytest.raises(ZiaError, match="different: kv_heads, tower"):
        load_adapter(seeing, path)
    with pytest.raises(
        ZiaError, match=r"trained on LlavaForConditionalGeneration.*this model is L"
    ):
        load_adapter(build("llama-gqa"), path)


@torch.no_grad()
def test_a_tower_of_clip(tmp_path: Path) -> None:
    text, image = embeddings(clip())
    model = open_gates(attach(clip(), CONFIG, tower="vision_model"))
    found_text, found_image = embeddings(model)
    assert torch.equal(found_text, text)
    assert not torch.allclose(found_image, image, atol=1e-3)
    save_adapter(model, tmp_path / "vision")
    again = load_adapter(clip(), tmp_path / "vision")
    assert torch.equal(embeddings(again)[1], found_image)
    add(again, "second", tmp_path / "vision")
    with use(again, "second"):
        assert torch.equal(embeddings(again)[1], found_image)
    reading = open_gates(attach(clip(), CONFIG, tower="text_model"))
    assert torch.equal(embeddings(reading)[1], image)
    assert not torch.equal(embeddings(reading)[0], text)
    with pytest.raises(ZiaError, match="different: tower"):
        add(reading, "second", tmp_path / "vision")


def test_a_layer_of_another_tower_is_not_saved_unseen(tmp_path: Path) -> None:
    model = attach(clip(), CONFIG, tower="vision_model")
    model.text_model.encoder.layers[0].mlp.fc1.weight.requires_grad_(True)
    with pytest.raises(ZiaError, match=r"text_model.*fc1\.weight is trained, but adapter files"):
        save_adapter(model, tmp_path)


@pytest.mark.parametrize(
    ("make", "tower", "says"),
    [
        (clip, None, r"has several towers \(text_model.*, vision_model.*\); choose one: attach\("),
        (clip, "language_model", "CLIPModel has no tower 'language_model'; it has text_model"),
        (clip, "encoder", r"several towers \(text_model\.encoder\.layers, vision_model"),
        (llava, "vision", "no tower 'vision'; it has"),
        (lambda: build("llama-gqa"), "vision_model", r"no tower .*; it has model\.layers\."),
    ],
)
def test_the_tower_must_be_one(make: Callable[[], nn.Module], tower: str, says: str) -> None:
    model = make()
    with pytest.raises(ZiaError, match=says):
        attach(model, CONFIG, tower=tower)
    assert all(parameter.requires_grad for parameter in model.parameters())


def test_a_full_name_and_the_only_tower_do() -> None:
    model = clip()
    names = [each.name for each in attention_layers(model, "vision_model.encoder.layers")]
    assert names == [f"vision_model.encoder.layers.{i}.self_attn" for i in range(3)]
    assert len(zero_init_layers(attach(build("timm"), CONFIG, tower="blocks"))) == 2
