"""Image backbones by name, and how they are loaded.

ViT-B/16 is timm's. The revision that the hub gives is not pinned, but the file's hash is recorded
with every run. The small ViT and the pocket ViT are released with the project.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.backbones import small_vit
from experiments.backbones.weights import CARD, WEIGHTS, by_name, located
from experiments.harness.needs import CONFIG, Source
from experiments.io.files import read_json

if TYPE_CHECKING:
    from timm.models import VisionTransformer


@dataclass(frozen=True, kw_only=True)
class ImageBackbone(Source):
    """A ViT without its classifier; `architecture` is timm's name, None for our own ViTs."""

    resolution: int
    architecture: str | None = None
    marker: str = WEIGHTS


def timm_vit(name: str, architecture: str, resolution: int = 224) -> ImageBackbone:
    """A ViT of timm's at the hub."""
    return ImageBackbone(
        name=name,
        folder=name,
        hub=f"timm/{name}",
        resolution=resolution,
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
    )


_VIT_B16 = "vit_base_patch16_224"
# The original ViT-B/16 of ImageNet-21k: VPT's ViT-B_16.npz, converted by timm.
ORIGINAL = timm_vit(f"{_VIT_B16}.orig_in21k", _VIT_B16)
# The same model trained again, with augmentation and regularisation (Steiner et al. 2021).
AUGMENTED = timm_vit(f"{_VIT_B16}.augreg_in21k", _VIT_B16)
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        ORIGINAL,
        AUGMENTED,
        own_vit("small-vit", "vit"),  # trained on CIFAR-10
        own_vit("pocket-vit", "pocket_vit"),  # trained on the generated world
    )
}


def get(name: str) -> ImageBackbone:
    """The backbone of that name; ZiaError lists the known ones."""
    return by_name(BACKBONES, name)


def vit_b16() -> str:
    """The name of the ViT-B/16 to use: the original, unless only the other has a folder here."""
    only_augmented = AUGMENTED.local.is_dir() and not ORIGINAL.local.is_dir()
    return (AUGMENTED if only_augmented else ORIGINAL).name


def load(backbone: ImageBackbone) -> tuple["VisionTransformer", dict[str, str]]:
    """Load a backbone, in float32 and eval mode on the CPU; give it a classifier before use.

    Returns:
        The model, and the SHA-256 of its weight file by its name.

    Raises:
        ZiaError: as in `weights.located`.
    """
    import timm
    from safetensors.torch import load_file

    with located(backbone) as found:
        if backbone.architecture is None:
            return small_vit.load(found.folder)[0], found.fingerprint()
        config = found.folder / CONFIG
        changes = read_json(config).get("model_args", {}) if config.exists() else {}
        model: Any = timm.create_model(backbone.architecture, num_classes=0, **changes)
        tensors = load_file(found.folder / WEIGHTS)
        # The classifier of 21,843 classes, where there is one, is not part of the backbone.
        model.load_state_dict(
            {name: t.float() for name, t in tensors.items() if not name.startswith("head.")}
        )
    return model.eval(), found.fingerprint()
