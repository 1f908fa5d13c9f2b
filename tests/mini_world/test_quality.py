"""The quality of the released pocket backbones that `mini` relies on.

`pytest -rP tests/mini_world/test_quality.py` prints the figures.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import AutoModelForCausalLM, AutoModelForMaskedLM, AutoTokenizer

from experiments.backbones import small_vit
from experiments.backbones.release import read_backbone
from experiments.backbones.weights import CARD, RELEASED, WEIGHTS
from experiments.images import protocols
from experiments.io.files import sha256_file
from experiments.mini_world.images import examples
from experiments.pretrain.llama import recall as language
from experiments.pretrain.pocket_vit.task import Settings, measure, pictures
from experiments.pretrain.roberta import recall as masked

LLAMA, ROBERTA = (RELEASED / f"pocket-{kind}" for kind in ("llama", "roberta"))
VIT = RELEASED / "pocket-vit"


@pytest.mark.parametrize("folder", [LLAMA, ROBERTA, VIT], ids=lambda folder: str(folder.name))
def test_weights_are_those_of_their_card(folder: Path) -> None:
    card = json.loads((folder / CARD).read_text())
    assert card["sha256"] == sha256_file(folder / WEIGHTS)
    assert {"seed", "version"} <= set(card["recipe"])


def test_all_weights_are_at_most_20_megabytes() -> None:
    sizes = [(folder / WEIGHTS).stat().st_size for folder in (LLAMA, ROBERTA, VIT)]
    print(f"{sum(sizes):,} bytes")
    assert sum(sizes) <= 20_000_000


def test_the_language_model_knows_its_facts() -> None:
    model = read_backbone(AutoModelForCausalLM, LLAMA).eval()
    tokenizer = AutoTokenizer.from_pretrained(LLAMA)
    with torch.no_grad():
        found = {
            name: language.measure(model, tokenizer, asked)
            for name, asked in language.skills().items()
        }
    print(found)
    assert found["held_out"] >= 0.95
    assert found["questions"] >= 0.95
    # A third is chance.
    assert found["quiz"] >= 0.9
    assert found["story"] >= 0.5
    assert found["letters"] >= 0.9
    assert found["conclusion"] >= 0.9
    card = json.loads((LLAMA / CARD).read_text())
    assert found == pytest.approx(card["quality"], abs=0.01)


def test_the_encoder_finds_masked_answers() -> None:
    model = read_backbone(AutoModelForMaskedLM, ROBERTA).eval()
    tokenizer = AutoTokenizer.from_pretrained(ROBERTA)
    with torch.no_grad():
        found = {
            name: masked.measure(model, tokenizer, asked) for name, asked in masked.skills().items()
        }
    print(found)
    assert found["answered"] >= 0.8
    assert found["retold"] >= 0.8
    assert found["held_out"] >= 0.65  # two of its forms are taken for another fact's
    card = json.loads((ROBERTA / CARD).read_text())
    assert found == pytest.approx(card["quality"], abs=0.01)


def test_the_image_encoder_sees_what_is_there() -> None:
    model = small_vit.load(VIT)[0].eval()
    settings = Settings()
    found = measure(model, pictures("quality pictures", 0, 500), settings)
    print(found)
    assert min(found[name] for name in ("colour", "shape", "ground")) >= 0.95


@pytest.mark.parametrize("task", ["mini_count", "mini_position"])
def test_where_and_how_many_can_be_read_off_by_a_linear_probe(task: str) -> None:
    """From all tokens of the last block; training never asked for places."""
    model = small_vit.load(VIT)[0].eval()
    protocol = protocols.get("vpt", 32)
    features, labels = [], []
    for split, n in (("train", 800), ("test", 300)):
        drawn = list(examples(task, split, n))
        images = torch.stack([protocol(Image.fromarray(image)) for image, _ in drawn])
        with torch.no_grad():
            features.append(model.forward_features(images).flatten(1))
        labels.append(np.array([label for _, label in drawn]))
    x, x_test = (torch.cat([f, torch.ones(len(f), 1)], dim=1).double() for f in features)
    classes = int(labels[0].max()) + 1
    wanted = torch.eye(classes, dtype=torch.float64)[labels[0]]
    ridge = 100 * torch.eye(x.shape[1], dtype=torch.float64)
    probe = torch.linalg.solve(x.T @ x + ridge, x.T @ wanted)
    accuracy = float(np.mean((x_test @ probe).argmax(dim=1).numpy() == labels[1]))
    chance = float(np.mean(labels[1] == np.bincount(labels[0]).argmax()))
    print(f"{task}: {accuracy:.3f}, the commonest class {chance:.3f}")
    assert accuracy >= chance + 0.2
