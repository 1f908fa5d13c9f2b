"""transformers' ViTs give the same features as the timm models that they become."""

from pathlib import Path

import pytest
import torch
from transformers import AutoModel

from experiments.backbones import vision_models
from tests.backbones.tiny_models import write_vit


@pytest.mark.parametrize("kind", ["vit", "dinov2"])
def test_features_are_those_of_transformers(tmp_path: Path, kind: str) -> None:
    folder = write_vit(tmp_path / kind, kind)
    backbone = vision_models.vit(str(folder))
    model, weights = vision_models.load(backbone)
    assert list(weights) == ["model.safetensors"]
    pixels = torch.randn(2, 3, 32, 32, generator=torch.Generator().manual_seed(0))
    expected = AutoModel.from_pretrained(folder).eval()(pixels).last_hidden_state
    found = model.forward_features(pixels)
    assert found.shape == expected.shape
    assert (found - expected).abs().max() < 1e-5


@pytest.mark.parametrize("kind", ["dinov2", "timm"])
def test_positions_are_interpolated_for_another_resolution(tmp_path: Path, kind: str) -> None:
    backbone = vision_models.vit(str(write_vit(tmp_path / kind, kind)))
    model, _ = vision_models.load(backbone, 48)
    assert model.forward_features(torch.zeros(1, 3, 48, 48)).shape[1] >= 36
    model, _ = vision_models.load(backbone, 32)
    assert model.forward_features(torch.zeros(1, 3, 32, 32)).shape[1] < 36
