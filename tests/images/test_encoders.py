"""Every kind of encoder gives the features of its own library."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from torchvision.transforms import v2

from experiments.backbones import small_vit
from experiments.backbones.weights import CARD, WEIGHTS
from experiments.images.encoders import Encoder, load
from tests.images.world import TIMM, write_encoders
from zia_core import ZiaError

NAMES = ["clip", "vit", "siglip", "timm", "timm-mean", "timm-registers", "small-vit"]
PATCHES = {"siglip": 0, "timm-mean": 0, "timm-registers": 2}  # where they begin, no class token


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("encoders")
    write_encoders(folder)
    return folder


@pytest.fixture(autouse=True)
def _weights(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(root))


def pixels(encoder: Encoder, batch: int = 2) -> torch.Tensor:
    side = encoder.protocol.resolution
    return torch.randn(batch, 3, side, side, generator=torch.Generator().manual_seed(2))


@torch.no_grad()
@pytest.mark.parametrize("name", NAMES)
def test_layers_by_hooks(name: str) -> None:
    """Depth d is what comes out of layer d, behind the encoder's last norm."""
    encoder = load(name)
    model: Any = encoder.model
    if name in ("clip", "vit", "siglip"):
        layers = model.layers if name == "vit" else model.encoder.layers
        norm = model.layernorm if name == "vit" else model.post_layernorm
    else:
        layers, norm = model.blocks, model.norm
    assert len(layers) == encoder.depth
    outputs: list[torch.Tensor] = []
    handles = [
        layer.register_forward_hook(
            lambda m, args, out: outputs.append(out if isinstance(out, torch.Tensor) else out[0])
        )
        for layer in layers
    ]
    images = pixels(encoder)
    model(images)
    for handle in handles:
        handle.remove()
    depths = [-1, 1, encoder.depth]
    found = encoder.tokens(images, depths)
    for depth, tokens in zip((encoder.depth, 1, encoder.depth), found, strict=True):
        torch.testing.assert_close(tokens, norm(outputs[depth - 1]))
        assert tokens.shape[-1] == encoder.width
    first = PATCHES.get(name)
    expected = found[0][:, 0] if first is None else found[0][:, first:].mean(1)
    assert torch.equal(encoder.summary(found[0]), expected)


@torch.no_grad()
def test_clip_s_last_global_feature_is_its_pooled_output() -> None:
    encoder = load("clip")
    images = pixels(encoder)
    pooled = encoder.model(pixel_values=images).pooler_output  # type: ignore[operator]
    torch.testing.assert_close(encoder.summary(encoder.tokens(images, [-1])[0]), pooled)


def test_preprocessing_is_that_of_the_encoder_s_files() -> None:
    image = Image.effect_noise((40, 30), 90).convert("RGB")
    ours = load("clip").protocol(image)
    theirs = v2.Compose(
        [
            v2.Resize(20, v2.InterpolationMode.BICUBIC),
            v2.CenterCrop(16),
            v2.PILToTensor(),
            v2.ToDtype(torch.float32, scale=True),
            v2.Normalize([0.5, 0.4, 0.3], [0.2, 0.3, 0.4]),
        ]
    )(image)
    torch.testing.assert_close(ours, theirs)
    timm = load("timm").protocol
    assert (timm.resolution, timm.crop_fraction, timm.mean) == (16, 0.8, (0.5, 0.5, 0.5))
    assert load("small-vit").protocol.resolution == 32


def test_identities_tell_weights_architecture_and_preprocessing(
    root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load("clip").identity() == load("clip").identity()
    identities = [load(name).identity() for name in NAMES]
    assert len({json.dumps(identity) for identity in identities}) == len(NAMES)
    encoder = load("clip")
    before = encoder.identity()
    with torch.no_grad():
        encoder.model.get_parameter("post_layernorm.bias")[3] += 1e-6
    assert encoder.identity() != before
    write_encoders(tmp_path)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    assert load("clip").identity() == before
    timm_before, args = load("timm").identity(), TIMM | {"num_heads": 4}
    black = {"image_mean": [0.0] * 3}
    dark = rewritten(tmp_path / "clip/preprocessor_config.json", black, "clip")
    for file, change, others in (
        ("clip/config.json", {"hidden_act": "gelu"}, [before]),
        ("clip/config.json", {"num_attention_heads": 4}, [before]),
        ("clip/preprocessor_config.json", {"size": 30}, [before]),
        ("clip/preprocessor_config.json", black | {"image_std": [0.5] * 3}, [before, dark]),
        ("timm/config.json", {"model_args": args}, [timm_before]),
    ):
        assert rewritten(tmp_path / file, change, file.partition("/")[0]) not in others
    assert (load("clip").identity(), load("timm").identity()) == (before, timm_before)
    wider = small_vit.ViTShape(dim=8, depth=2, heads=4)
    small, card = load("small-vit").identity(), tmp_path / "small-vit" / CARD
    card.write_text(small_vit.card(wider, card.with_name(WEIGHTS), {}))
    assert load("small-vit").identity() != small


def rewritten(path: Path, change: dict[str, Any], encoder: str) -> dict[str, Any]:
    """The encoder's identity while a file of it has other fields."""
    original = path.read_text()
    path.write_text(json.dumps(json.loads(original) | change))
    found = load(encoder).identity()
    path.write_text(original)
    return found


def test_what_is_missing_or_damaged_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ZiaError, match=r"no image encoder 'nothing'.*owner/name@revision"):
        load("nothing")
    with pytest.raises(ZiaError, match=r"encoder clip-vit-l-14.*openai/clip-vit-large-patch14 can"):
        load("clip-vit-l-14")
    with pytest.raises(ZiaError, match=r"clip has 3 layers, and none at depth 4"):
        load("clip").layer(4)
    with pytest.raises(ZiaError, match=r"none at depth 0"):
        load("clip").layer(0)
    write_encoders(tmp_path)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    for name in ("clip", "timm"):
        weights = tmp_path / name / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:900])
        with pytest.raises(ZiaError, match=rf"encoder {name} in .*{name} cannot be loaded"):
            load(name)
        weights.unlink()
        with pytest.raises(ZiaError, match=r"no \*\.safetensors"):
            load(name)
    (tmp_path / "vit" / "preprocessor_config.json").write_text("{}")
    with pytest.raises(ZiaError, match=r"preprocessor_config.json: mean and std"):
        load("vit")


def test_an_encoder_without_a_stored_pooler_is_the_same_at_every_loading(
    root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(root))
    for name in NAMES:
        torch.manual_seed(0)
        first = load(name).identity()
        torch.manual_seed(1)
        assert load(name).identity() == first, name
