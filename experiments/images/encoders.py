"""Image encoders by name: CLIP's vision tower, and any ViT of transformers or timm.

The ViTs of `experiments.backbones`, CLIP ViT-B/16 of `make clip` among them, go by their names. Any
other encoder is a folder in the hub's format, transformers' or timm's: `$ZIA_WEIGHTS/<name>`, or
the hub at a revision, `owner/name@revision`.
"""

import re
from pathlib import Path
from typing import Any

from experiments.backbones import own, vision_models
from experiments.backbones.weights import WEIGHTS, located, no_load_report, no_progress_bars
from experiments.harness.needs import CONFIG, Source
from experiments.images import protocols
from experiments.images.encoder import Encoder, encoder_of
from experiments.images.encoder_preprocessing import timm_protocol, transformers_protocol
from experiments.io.files import read_json
from zia_core.errors import ZiaError

# CLIP ViT-L/14, the paper's, goes by the name of its folder.
NAMED = {
    "clip-vit-l-14": "openai/clip-vit-large-patch14@32bd64288804d66eefd0ccbe215aa642df71cc41",
}
NAMED_DEPTHS = {"clip-vit-l-14": 24}
# The preprocessing that encoders of `experiments.backbones` were trained with.
PROTOCOLS = {"small-vit": "vpt", "pocket-vit": "vpt", vision_models.CLIP.name: "clip"}
OTHER_PROTOCOL = "half"
HUB = re.compile(r"[\w.-]+/[\w.-]+@[0-9a-f]{40}")
# Fields of a configuration that depend on the machine.
OF_THE_MACHINE = ("transformers_version", "_name_or_path")


def named(asked: str) -> tuple[str, int]:
    """Name in specs and depth of the encoder that `--encoder` asks for, as `own.named` finds it.

    Raises:
        ZiaError: as `own.named`, or its configuration names no number of layers.
    """
    name = own.named(asked, [*vision_models.BACKBONES, *NAMED])
    if name in NAMED:
        return name, NAMED_DEPTHS[name]
    if name in vision_models.BACKBONES:
        return name, vision_models.get(name).layers
    config = own.config_of(name)
    if "architecture" in config:
        return name, vision_models.get(name).layers
    config = config.get("vision_config", config)
    depth = config.get("num_hidden_layers")
    if not isinstance(depth, int) or "patch_size" not in config:
        raise ZiaError(f"{name} is not a ViT: its {CONFIG} has no patch_size or number of layers")
    return name, depth


def load(name: str) -> Encoder:
    """Load an encoder, in float32 and eval mode on the CPU.

    ZiaError if it is unknown or not a ViT, or as in `weights.located`.
    """
    if name in vision_models.BACKBONES:
        return _backbone(vision_models.get(name))
    with located(source(name)) as found:
        config = read_json(found.folder / CONFIG)
        if "architecture" in config:
            made_from = {key: config.get(key) for key in ("architecture", "model_args")}
            protocol, model = timm_protocol(config, name), _timm(found.folder, config)
        else:
            model = _transformers(found.folder, config)
            fields = model.config.to_dict().items()
            made_from = {key: value for key, value in fields if key not in OF_THE_MACHINE}
            protocol = transformers_protocol(found.folder)
    return encoder_of(name, model, protocol, found.fingerprint(), made_from)


def _backbone(backbone: vision_models.ImageBackbone) -> Encoder:
    model: Any
    model, weights = vision_models.load(backbone)
    name, resolution = backbone.name, backbone.resolution
    protocol = protocols.get(PROTOCOLS.get(name, OTHER_PROTOCOL), resolution)
    made_from = {
        "name": name,
        "resolution": resolution,
        "architecture": backbone.architecture,
        "heads": [block.attn.num_heads for block in model.blocks],
    }
    return encoder_of(name, model, protocol, weights, made_from)


def source(name: str) -> Source:
    """Where an encoder's weights come from; ZiaError if it is unknown."""
    if name in vision_models.BACKBONES:
        return vision_models.get(name)
    if own.FOLDER_NAME.fullmatch(name):
        return own.source(name)
    named = NAMED.get(name, name)
    repository, _, revision = named.partition("@")
    # A folder may be named after the model, without owner and revision.
    folder = name.rpartition("/")[2].partition("@")[0]
    if own.is_own(name) and not (Source(name, folder).local / CONFIG).exists():
        return own.source(name)
    found = Source(f"the image encoder {name}", folder, hub=repository, revision=revision)
    if not (found.local / CONFIG).exists() and not HUB.fullmatch(named):
        raise ZiaError(
            f"there is no image encoder {name!r:.80}: {found.local} has no {CONFIG}, and it is "
            "neither one of the known names nor owner/name@revision of the hub"
        )
    return found


def _timm(folder: Path, config: dict[str, Any]) -> Any:
    from safetensors.torch import load_file

    model = vision_models.timm_model(config["architecture"], config.get("model_args", {}))
    tensors = load_file(folder / WEIGHTS)
    heads = ("head.", "head_drop.")
    model.load_state_dict({n: t for n, t in tensors.items() if not n.startswith(heads)})
    return model


def _transformers(folder: Path, config: dict[str, Any]) -> Any:
    import torch
    from transformers import AutoModel, CLIPVisionModel, SiglipVisionModel

    towers: dict[Any, Any] = {"clip": CLIPVisionModel, "siglip": SiglipVisionModel}
    kind = towers.get(config.get("model_type"), AutoModel)
    with no_progress_bars(), no_load_report():
        model, report = kind.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    if missing := [key for key in report["missing_keys"] if "pooler" not in key]:
        raise ValueError(f"{missing[0]} is missing")
    if report["missing_keys"]:
        # The pooler is not used, and not stored it is random: every loading would be another model.
        model.pooler = None
    return model
