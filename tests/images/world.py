"""Tiny encoders of every kind in the hub's formats, and pictures."""

import json
from pathlib import Path

import timm
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import nn
from transformers import (
    CLIPVisionConfig,
    CLIPVisionModel,
    SiglipVisionConfig,
    SiglipVisionModel,
    ViTConfig,
    ViTModel,
)

from experiments.backbones import small_vit
from experiments.backbones.weights import CARD, WEIGHTS

TINY = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "image_size": 16,
    "patch_size": 8,
}
TIMM = {"img_size": 16, "patch_size": 8, "embed_dim": 16, "depth": 3, "num_heads": 2}
MEAN = {"class_token": False, "global_pool": "avg", "fc_norm": False}


def write_encoders(root: Path, seed: int = 0) -> None:
    """Tiny encoders in folders of `root`, by the names of their kinds.

    Without a class token are `siglip`, `timm-mean` and `timm-registers`.
    """
    torch.manual_seed(seed)
    for name, model in (
        ("clip", CLIPVisionModel(CLIPVisionConfig(**TINY))),
        ("vit", ViTModel(ViTConfig(**TINY), add_pooling_layer=False)),
        ("siglip", SiglipVisionModel(SiglipVisionConfig(**TINY))),
    ):
        _random(model)
        model.save_pretrained(root / name)
        size = {"size": {"shortest_edge": 20}, "do_center_crop": True, "crop_size": 16}
        preprocessor = size | {"image_mean": [0.5, 0.4, 0.3], "image_std": [0.2, 0.3, 0.4]}
        (root / name / "preprocessor_config.json").write_text(json.dumps(preprocessor))
    for name, arguments in (
        ("timm", TIMM),
        ("timm-mean", TIMM | MEAN),
        ("timm-registers", TIMM | MEAN | {"reg_tokens": 2}),
    ):
        plain = timm.create_model("vit_tiny_patch16_224", num_classes=5, **arguments)
        _random(plain)
        (root / name).mkdir(parents=True)
        save_file(plain.state_dict(), root / name / "model.safetensors")
        config = {
            "architecture": "vit_tiny_patch16_224",
            "model_args": arguments,
            "pretrained_cfg": {"input_size": [3, 16, 16], "crop_pct": 0.8, "mean": [0.5] * 3},
        }
        (root / name / "config.json").write_text(json.dumps(config))
    write_small_vit(root / "small-vit")


def write_small_vit(folder: Path) -> None:
    """The small ViT at two layers of width 8, as `pretrain` leaves it."""
    shape = small_vit.ViTShape(dim=8, depth=2, heads=2)
    model = small_vit.build(shape)
    _random(model)
    folder.mkdir(parents=True)
    small_vit.write_weights(model, folder / WEIGHTS)
    text = small_vit.card(shape, folder / WEIGHTS, {"what": "a tiny one"})
    (folder / CARD).write_text(text)


def _random(model: nn.Module) -> None:
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter) * 0.1)


def write_images(folder: Path, number: int) -> list[Path]:
    """Pictures of different sizes, PNG and JPEG in turn."""
    folder.mkdir(parents=True, exist_ok=True)
    paths = []
    for i in range(number):
        pixels = torch.randint(
            0, 256, (9 + i % 5, 12 + i % 3, 3), generator=torch.Generator().manual_seed(i)
        )
        path = folder / f"{i:03d}.{'png' if i % 2 else 'jpg'}"
        Image.fromarray(pixels.to(torch.uint8).numpy()).resize((24, 20)).save(path)
        paths.append(path)
    return paths
