from pathlib import Path

import pytest
import timm
import torch
from safetensors.torch import save_file

from experiments.backbones import small_vit, vision_models
from experiments.backbones import weights as finding
from experiments.backbones.small_vit import ViTShape
from experiments.backbones.vision_models import load, timm_vit
from experiments.backbones.weights import CARD, WEIGHTS
from zia_core.errors import ZiaError

# As ViT-B/16, but quick to make.
TINY = timm_vit("vit.tiny_in21k", "test_vit")


@pytest.fixture
def weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(finding, "RELEASED", tmp_path / "released")
    return tmp_path / "weights"


def write_timm(folder: Path) -> torch.nn.Module:
    torch.manual_seed(1)
    model = timm.create_model("test_vit", num_classes=21)
    folder.mkdir(parents=True)
    tensors = {name: tensor.contiguous() for name, tensor in model.state_dict().items()}
    save_file(tensors, folder / WEIGHTS)
    return model.eval()


def test_a_timm_vit_comes_without_its_classifier(weights: Path) -> None:
    whole = write_timm(weights / TINY.name)
    model, fingerprint = load(TINY)
    images = torch.randn(1, 3, *model.patch_embed.img_size)
    assert torch.equal(model.forward_features(images), whole.forward_features(images))
    assert model.num_classes == 0
    assert not model.training
    assert list(fingerprint) == ["model.safetensors"]
    model.reset_classifier(5)
    assert model(images).shape == (1, 5)


def test_weights_that_are_not_the_models_are_refused(weights: Path) -> None:
    write_timm(weights / TINY.name)
    file = weights / TINY.name / WEIGHTS
    content = file.read_bytes()
    refused = r"weights of vit\.tiny_in21k in .* cannot be loaded"
    for damaged in (content[:-100], b""):
        file.write_bytes(damaged)
        with pytest.raises(ZiaError, match=rf"{refused} .*again"):
            load(TINY)
    save_file({"cls_token": torch.zeros(1, 1, 64)}, file)
    with pytest.raises(ZiaError, match=rf"{refused} .*state_dict"):
        load(TINY)


def test_without_a_folder_the_hub_is_asked(weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Here it is offline: the client's own error, as one sentence; then a file in its cache."""
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    cache = weights.parent / "cache"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    said = r"tiny_in21k does not exist, and the hub's timm/vit\.tiny_in21k cannot be reached"
    with pytest.raises(ZiaError, match=said):
        load(TINY)
    repository = cache / f"models--timm--{TINY.name}"
    (repository / "refs").mkdir(parents=True)
    (repository / "refs" / "main").write_text("0" * 40)
    whole = write_timm(repository / "snapshots" / ("0" * 40))
    model, _ = load(TINY)
    assert torch.equal(model.cls_token, whole.cls_token)


def write_small(folder: Path, seed: int) -> None:
    torch.manual_seed(seed)
    shape = ViTShape(dim=16, depth=1, heads=2)
    folder.mkdir(parents=True)
    small_vit.write_weights(small_vit.build(shape), folder / WEIGHTS)
    (folder / CARD).write_text(small_vit.card(shape, folder / WEIGHTS, {}))


def test_ones_own_small_vit_comes_before_the_released_one(weights: Path) -> None:
    small = vision_models.get("small-vit")
    with pytest.raises(ZiaError, match=r"no weights of small-vit: .*released.*zia pretrain vit"):
        load(small)
    write_small(finding.RELEASED / "small-vit", 0)
    released = load(small)[1]
    write_small(weights / "small-vit", 1)
    assert load(small)[1] != released


def test_which_vit_b16(weights: Path) -> None:
    assert vision_models.vit_b16() == "vit_base_patch16_224.orig_in21k"
    (weights / "vit_base_patch16_224.augreg_in21k").mkdir(parents=True)
    assert vision_models.vit_b16() == "vit_base_patch16_224.augreg_in21k"
    (weights / "vit_base_patch16_224.orig_in21k").mkdir()
    assert vision_models.vit_b16() == "vit_base_patch16_224.orig_in21k"
    for name in vision_models.BACKBONES:
        assert vision_models.get(name).resolution == (224 if "base" in name else 32)
    with pytest.raises(ZiaError, match=r"there is no backbone 'vit'; choose from: vit_base"):
        vision_models.get("vit")
