"""A small pre-norm ViT of our own, and the files its weights are released in.

It is a timm VisionTransformer for 32 x 32 images, trained by `pretrain` on CIFAR-10 or, smaller,
on the generated world. It stands in where ViT-B/16 is too slow, and tables say so.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from experiments.backbones.weights import CARD, WEIGHTS
from experiments.io.files import read_json, sha256_file
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

if TYPE_CHECKING:
    from timm.models import VisionTransformer

MAX_BYTES = 6_000_000  # of a released weight file
TOKEN_PIXELS = 8  # the side of the square of pixels that becomes a token


@dataclass(frozen=True)
class ViTShape:
    """The sizes of the model; each of the (image_size / 8)^2 tokens has `dim` channels."""

    dim: int = 128
    depth: int = 6
    heads: int = 4
    mlp_ratio: int = 4
    image_size: int = 32
    classes: int = 10


def build(shape: ViTShape) -> "VisionTransformer":
    """A randomly initialised model: input (B, 3, S, S), output (B, classes).

    Instead of one 8 x 8 patch projection, three 3 x 3 convolutions, two of stride 2, and a 2 x 2
    projection make the tokens (Xiao et al. 2021, "Early convolutions help transformers see
    better"): a small ViT then needs far fewer epochs, and 16 tokens are enough. There is no batch
    norm, whose statistics would go on changing in a frozen backbone in train mode.
    """
    from timm.layers.hybrid_embed import HybridEmbed
    from timm.models import VisionTransformer
    from torch import nn

    layers: list[nn.Module] = []
    channels = 3
    for width, stride in ((shape.dim // 4, 1), (shape.dim // 2, 2), (shape.dim, 2)):
        layers += [nn.Conv2d(channels, width, 3, stride=stride, padding=1), nn.GELU()]
        channels = width
    return VisionTransformer(
        img_size=shape.image_size,
        patch_size=TOKEN_PIXELS // 4,  # of the stem's output
        embed_layer=partial(HybridEmbed, backbone=nn.Sequential(*layers)),
        embed_dim=shape.dim,
        depth=shape.depth,
        num_heads=shape.heads,
        mlp_ratio=shape.mlp_ratio,
        num_classes=shape.classes,
    )


def write_weights(model: "VisionTransformer", path: Path) -> None:
    """Write all parameters to `path` as bfloat16 safetensors; ZiaError above 6 MB."""
    import torch
    from safetensors.torch import save

    tensors = {
        name: tensor.detach().to("cpu", torch.bfloat16).contiguous()
        for name, tensor in model.state_dict().items()
    }
    content = save(tensors)
    if len(content) > MAX_BYTES:
        raise ZiaError(
            f"the weights take {len(content):,} bytes, more than the {MAX_BYTES:,} of a release: "
            "lower dim or depth"
        )
    path.write_bytes(content)


def card(shape: ViTShape, weights: Path, facts: Mapping[str, Any]) -> str:
    """The text of the card beside `weights`: shape, hash, and `facts`."""
    described = {"shape": asdict(shape), "sha256": sha256_file(weights), **facts}
    return json.dumps(described, indent=2, allow_nan=False) + "\n"


def load(folder: Path) -> tuple["VisionTransformer", dict[str, Any]]:
    """Return the model in `folder`, in float32 and eval mode, and its card.

    ZiaError if a file is missing or damaged, or if the weights are not those of the card.
    """
    described = read_json(folder / CARD)
    where = str(folder / CARD)
    shape = conform_fields({"shape": dict}, described, where)["shape"]
    sizes = conform_fields(get_type_hints(ViTShape), shape, f"{where}: shape")
    if sha256_file(folder / WEIGHTS) != described.get("sha256"):
        raise ZiaError(f"{folder / WEIGHTS} is not the file that {where} describes: fetch both")
    return read_weights(ViTShape(**sizes), folder / WEIGHTS), described


def read_weights(shape: ViTShape, path: Path) -> "VisionTransformer":
    """Return the model with the weights in `path`, in float32 and eval mode."""
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    model = build(shape)
    try:
        model.load_state_dict({name: tensor.float() for name, tensor in load_file(path).items()})
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ZiaError(f"{path} does not hold the weights of {shape}: fetch it again") from error
    return model.eval()
