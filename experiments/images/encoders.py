"""Frozen image encoders: CLIP's vision tower, and any ViT of transformers or timm.

`small-vit`, `pocket-vit` and the ViT-B/16 of ImageNet-21k are those of `experiments.backbones`. Any
other encoder is a folder in the hub's format, transformers' or timm's: `$ZIA_WEIGHTS/<name>`, or
the hub at a revision, `owner/name@revision`.
"""

import hashlib
import os
import re
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones.language_models import WEIGHTS_VARIABLE
from experiments.data import hub
from experiments.harness.provenance import PROJECT, weights_fingerprint
from experiments.images import protocols
from experiments.images.encoder_preprocessing import timm_protocol, transformers_protocol
from experiments.images.protocols import Protocol
from experiments.io.files import read_json
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn

# CLIP ViT-L/14, the paper's, has a name of its own: that of its folder.
NAMED = {
    "clip-vit-l-14": "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
}
# Encoders of `experiments.backbones`, and how their images are prepared: as they were trained.
PROTOCOLS = {"small-vit": "vpt", "pocket-vit": "vpt"}
OTHER_PROTOCOL = "half"
HUB = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
FILES = ["*.json", "*.safetensors"]
# What transformers' ViTs call the norm behind their last layer.
LAST_NORMS = ("post_layernorm", "layernorm", "norm")
# What the class token is called: CLIP's, that of other ViTs.
CLASS_TOKENS = ("class_embedding", "cls_token")
# What a configuration says of the machine.
OF_THE_MACHINE = ("transformers_version", "_name_or_path")


@dataclass(frozen=True)
class Encoder:
    """A frozen ViT: `width` channels, `depth` layers, images prepared by `protocol`."""

    name: str
    model: "nn.Module"
    protocol: Protocol
    width: int
    depth: int
    weights: dict[str, str]  # SHA-256 of every weight file by its name
    # What the model was made from. Its weights and its text do not tell the number of heads, say.
    made_from: dict[str, Any]

    def layer(self, depth: int) -> int:
        """`depth` counted from 1, from -1 downwards from the last; ZiaError if there is none."""
        found = depth + self.depth + 1 if depth < 0 else depth
        if not 1 <= found <= self.depth:
            raise ZiaError(f"{self.name} has {self.depth} layers, and none at depth {depth}")
        return found

    def tokens(self, pixels: "Tensor", depths: Sequence[int]) -> "list[Tensor]":
        """All tokens behind layers, class token first where there is one: [B, T, width] each.

        The encoder's last norm is applied at every depth, so that all are of one scale (ours).
        """
        layers = [self.layer(depth) for depth in depths]
        model: Any = self.model
        if hasattr(model, "forward_intermediates"):
            return self._tokens_of_timm(pixels, layers)
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
        norm = next(getattr(model, name) for name in LAST_NORMS if hasattr(model, name))
        return [norm(states[layer]) for layer in layers]

    def _tokens_of_timm(self, pixels: "Tensor", layers: list[int]) -> "list[Tensor]":
        from torch import cat

        model: Any = self.model
        wanted = sorted(set(layers))  # timm gives them in this order
        found = model.forward_intermediates(
            pixels,
            indices=[layer - 1 for layer in wanted],
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        if model.num_prefix_tokens:
            found = [cat([prefix, spatial], dim=1) for spatial, prefix in found]
        by_layer = dict(zip(wanted, found, strict=True))
        return [by_layer[layer] for layer in layers]

    def summary(self, tokens: "Tensor") -> "Tensor":
        """The global feature of an image [B, width].

        Its class token, which comes first; in an encoder without one the mean over the patches,
        whose registers stand in front of them.
        """
        model: Any = self.model
        inputs = getattr(model, "embeddings", model)  # transformers', timm's
        if any(getattr(inputs, name, None) is not None for name in CLASS_TOKENS):
            return tokens[:, 0]
        return tokens[:, getattr(model, "num_prefix_tokens", 0) :].mean(dim=1)

    def identity(self) -> dict[str, Any]:
        """What the features are a function of: architecture, weights, preprocessing."""
        digest = hashlib.sha256(repr(self.model).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {
            "encoder": digest.hexdigest(),
            "made_from": self.made_from,
            "input": asdict(self.protocol),
        }


def load(name: str) -> Encoder:
    """Load an encoder, in float32 and eval mode on the CPU.

    ZiaError if it is unknown, its weights are missing or damaged, or it is no ViT.
    """
    from experiments.backbones import vision_models as vision

    if name in vision.BACKBONES:
        backbone = vision.get(name)
        model: Any
        model, weights = vision.load(backbone)
        protocol = protocols.get(PROTOCOLS.get(name, OTHER_PROTOCOL), backbone.resolution)
        heads = [block.attn.num_heads for block in model.blocks]
        return _encoder(name, model, protocol, weights, asdict(backbone) | {"heads": heads})
    folder = _folder(name)
    config = read_json(folder / "config.json")
    weights = weights_fingerprint(_weight_files(folder))
    if "architecture" in config:
        made_from = {key: config.get(key) for key in ("architecture", "model_args")}
        protocol = timm_protocol(config, name)
        return _encoder(name, _timm(folder, config), protocol, weights, made_from)
    model = _transformers(folder, config)
    made_from = {k: v for k, v in model.config.to_dict().items() if k not in OF_THE_MACHINE}
    return _encoder(name, model, transformers_protocol(folder), weights, made_from)


def _encoder(
    name: str,
    model: Any,
    protocol: Protocol,
    weights: dict[str, str],
    made_from: dict[str, Any],
) -> Encoder:
    config: Any = getattr(model, "config", None)
    if hasattr(model, "forward_intermediates") and hasattr(model, "blocks"):
        width, depth = int(model.embed_dim), len(model.blocks)
    elif hasattr(config, "num_hidden_layers") and any(hasattr(model, n) for n in LAST_NORMS):
        width, depth = int(config.hidden_size), int(config.num_hidden_layers)
    else:
        raise ZiaError(f"{name} ({type(model).__name__}) is no ViT whose layers can be read")
    model.requires_grad_(False).eval()
    return Encoder(name, model, protocol, width, depth, weights, made_from)


def _folder(name: str) -> Path:
    root = Path(os.environ.get(WEIGHTS_VARIABLE) or PROJECT / "weights")
    named = NAMED.get(name, name)
    # The name of a folder: without the owner and the revision.
    folder = root / name.rpartition("/")[2].partition("@")[0]
    if (folder / "config.json").exists():
        return folder
    if not HUB.fullmatch(named):
        raise ZiaError(
            f"there is no image encoder {name!r:.80}: {folder} has no config.json, and it is "
            "neither one of the known names nor owner/name@revision of the hub"
        )
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    repository, _, revision = named.partition("@")
    try:
        with hub.asked():
            return Path(snapshot_download(repository, revision=revision, allow_patterns=FILES))
    except (LocalEntryNotFoundError, HfHubHTTPError, ConnectionError) as error:
        raise ZiaError(
            f"no weights of the image encoder {name}: {folder} does not exist, and the hub's "
            f"{repository} cannot be reached ({type(error).__name__}); put the model into that "
            f"folder, set ${WEIGHTS_VARIABLE}, or connect to the network"
        ) from error


def _weight_files(folder: Path) -> list[Path]:
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        raise ZiaError(f"{folder} has a config.json but no *.safetensors: fetch the weights again")
    return files


def _timm(folder: Path, config: dict[str, Any]) -> Any:
    import timm
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    path = folder / "model.safetensors"
    if ":" in str(config["architecture"]):  # timm would fetch what "hf-hub:..." names
        raise ZiaError(_damaged(folder, "config.json names a place as its architecture"))
    try:
        arguments = config.get("model_args", {})
        model: Any = timm.create_model(config["architecture"], num_classes=0, **arguments)
        head = tuple(f"{part}." for part in ("head", "head_drop"))
        tensors = {n: t for n, t in load_file(path).items() if not n.startswith(head)}
        model.load_state_dict(tensors)
    except (SafetensorError, OSError, RuntimeError, TypeError) as error:
        raise ZiaError(_damaged(folder, error)) from error
    return model


def _transformers(folder: Path, config: dict[str, Any]) -> Any:
    import torch
    from safetensors import SafetensorError
    from transformers import AutoModel, CLIPVisionModel, SiglipVisionModel

    towers: dict[Any, Any] = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    kind = towers.get(config.get("model_type"), AutoModel)
    try:
        model, found = kind.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    except (SafetensorError, OSError, ValueError, RuntimeError, LookupError) as error:
        raise ZiaError(_damaged(folder, error)) from error
    if missing := [key for key in found["missing_keys"] if "pooler" not in key]:
        raise ZiaError(_damaged(folder, f"{missing[0]} is missing"))
    if found["missing_keys"]:
        # Not stored, it is random, and not used: it would make another encoder of every loading.
        model.pooler = None
    return model


def _damaged(folder: Path, error: object) -> str:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return f"the image encoder in {folder} cannot be loaded ({reason[0]:.160}): fetch it again"
