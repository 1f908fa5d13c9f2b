"""Image backbones by name, and how they are loaded.

ViT-B/16 is timm's. The revision that the hub gives is not pinned, but the file's hash is recorded
with every run. CLIP's image tower comes from a package (`clip_wheel`); its weights were int8 there,
so they are not those of the hub. The small ViT and the pocket ViT are released with the project.
Any other ViT of timm or transformers is found by `own`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from experiments.backbones import own, small_vit, transformers_vit
from experiments.backbones.clip_to_timm import timm_tensors
from experiments.backbones.weights import CARD, WEIGHTS, by_name, located
from experiments.harness.needs import CONFIG, Source
from experiments.io.files import read_json
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from timm.models import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class ImageBackbone(Source):
    """A ViT without its classifier; `architecture` is timm's name, if timm builds it."""

    resolution: int  # of the pretraining; timm's ViTs take other multiples of their patches
    layers: int
    architecture: str | None = None
    kind: str | None = None  # transformers' name of its architecture
    marker: str = WEIGHTS


def timm_vit(name: str, architecture: str) -> ImageBackbone:
    """A ViT of timm's at the hub."""
    return ImageBackbone(
        name=name,
        folder=name,
        hub=f"timm/{name}",
        resolution=224,
        layers=12,
        architecture=architecture,
    )


def own_vit(name: str, pretraining: str) -> ImageBackbone:
    """A ViT that is released with the project."""
    return ImageBackbone(
        name=name,
        folder=name,
        released=True,
        howto=f"fetch the project's files again, or run `zia pretrain {pretraining}` and put "
        f"{WEIGHTS} and {CARD} of that run there",
        resolution=32,
        layers=6,
    )


_VIT_B16 = "vit_base_patch16_224"
# The original ViT-B/16 of ImageNet-21k: VPT's ViT-B_16.npz, converted by timm.
ORIGINAL = timm_vit(f"{_VIT_B16}.orig_in21k", _VIT_B16)
# The same model trained again, with augmentation and regularisation (Steiner et al. 2021).
AUGMENTED = timm_vit(f"{_VIT_B16}.augreg_in21k", _VIT_B16)
_CLIP_B16 = "vit_base_patch16_clip_quickgelu_224"
CLIP = ImageBackbone(
    name=f"{_CLIP_B16}.int8",
    folder="clip-vit-b-16-int8",
    howto="run `make clip`",
    resolution=224,
    layers=12,
    architecture=_CLIP_B16,
)
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        ORIGINAL,
        AUGMENTED,
        CLIP,
        own_vit("small-vit", "vit"),  # trained on CIFAR-10
        own_vit("pocket-vit", "pocket_vit"),  # trained on the generated world
    )
}


def get(name: str) -> ImageBackbone:
    """The backbone of that name in a spec; ZiaError lists the known ones."""
    if not own.is_own(name):
        return by_name(BACKBONES, name)
    config, found = own.config_of(name), vars(own.source(name)) | {"marker": CONFIG}
    architecture = config.get("architecture")
    layers, resolution = _shape(name)
    return ImageBackbone(
        **found,
        resolution=resolution,
        layers=layers,
        architecture=architecture,
        kind=config.get("model_type") if architecture is None else None,
    )


@cache
def _shape(name: str) -> tuple[int, int]:
    """Layers and resolution of a ViT that is not in the list; ZiaError if it is not a ViT."""
    import torch

    from zia_core.baselines.encoders import image_encoder
    from zia_core.families import attention_layers

    with own.refused(f"{name} is not a ViT for image tasks"):
        with torch.device("meta"):
            model = empty(name)
        layers, parts = len(attention_layers(model)), image_encoder(model)
    return layers, parts.image_size[0]


def empty(name: str) -> Any:
    """A ViT that is not in the list, without a classifier and without its weights."""
    config = own.config_of(name)
    if "architecture" in config:
        return timm_model(config["architecture"], config.get("model_args") or {})
    return transformers_vit.empty(config)


def vit(asked: str) -> ImageBackbone:
    """The ViT that `--backbone` asks for, as `own.named` finds it.

    Raises:
        ZiaError: as `own.named`, or it is not a plain ViT of timm or transformers.
    """
    return get(own.named(asked, BACKBONES))


def timm_model(architecture: str, arguments: Mapping[str, Any]) -> Any:
    """The model without a classifier, and without weights of its own.

    Raises:
        RuntimeError, TypeError: timm has no such model, or none with these arguments.
        ValueError: the name is that of a place to fetch it from.
    """
    import timm

    if ":" in str(architecture):  # timm would fetch what "hf-hub:..." names
        raise ValueError(f"{CONFIG} names a place as its architecture")
    return timm.create_model(architecture, pretrained=False, num_classes=0, **arguments)


def vit_b16() -> str:
    """The name of the ViT-B/16 to use: the original, unless only the other has a folder here."""
    only_augmented = AUGMENTED.local.is_dir() and not ORIGINAL.local.is_dir()
    return (AUGMENTED if only_augmented else ORIGINAL).name


def load(
    backbone: ImageBackbone, resolution: int | None = None
) -> tuple["VisionTransformer", dict[str, str]]:
    """Load a backbone, in float32 and eval mode on the CPU; give it a classifier before use.

    Args:
        backbone: of `get`.
        resolution: of the images, in pixels a side; None: the backbone's own. For others, timm
            resamples the positions (bicubic, antialiased), as it does for fine-tuning.

    Returns:
        The model, and the SHA-256 of its weight file by its name.

    Raises:
        ZiaError: as in `weights.located`, or the backbone does not take that resolution.
    """
    from safetensors.torch import load_file
    from timm.layers.pos_embed import resample_abs_pos_embed

    side = backbone.resolution if resolution is None else resolution
    if side != backbone.resolution and backbone.architecture is backbone.kind is None:
        raise ZiaError(
            f"resolution={side}, but {backbone.name} takes images of {backbone.resolution} "
            f"pixels a side: set resolution={backbone.resolution}"
        )
    with located(backbone) as found:
        model: Any
        if backbone.kind is not None:
            model = transformers_vit.empty(read_json(found.folder / CONFIG))
            model.load_state_dict(transformers_vit.weights(found.folder, backbone.kind))
            if side != backbone.resolution:
                model.set_input_size(img_size=side)
        elif backbone.architecture is None:
            model = small_vit.load(found.folder)[0]
        else:
            config = found.folder / CONFIG
            changes = read_json(config).get("model_args", {}) if config.exists() else {}
            if side != backbone.resolution:
                changes["img_size"] = side
            model = timm_model(backbone.architecture, changes)
            tensors = load_file(found.folder / WEIGHTS)
            if "vision_model.embeddings.class_embedding" in tensors:  # transformers' names
                tensors = timm_tensors(tensors)
            positions = tensors.get("pos_embed")
            if positions is not None and positions.shape != model.pos_embed.shape:
                tensors["pos_embed"] = resample_abs_pos_embed(
                    positions,
                    model.patch_embed.grid_size,
                    num_prefix_tokens=0 if model.no_embed_class else model.num_prefix_tokens,
                )
            # The classifier of 21,843 classes, where there is one, is not part of the backbone.
            model.load_state_dict(
                {name: t.float() for name, t in tensors.items() if not name.startswith("head.")}
            )
    return model.eval(), found.fingerprint()
