"""Image backbones by name: where their weights are found, and how they are loaded.

`$ZIA_WEIGHTS/<name>/` (default `weights/<name>` in the project) holds `model.safetensors`. Where
there is none, ViT-B/16 is asked for at the hub, in timm's repository of that name; which revision
that gave is not pinned, but the file's hash is recorded with every run. The small ViT and the
pocket ViT are released with the project, in this package; a folder `$ZIA_WEIGHTS/small-vit` comes
before that one.
"""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import small_vit
from experiments.backbones.language_models import WEIGHTS_VARIABLE
from experiments.data import hub
from experiments.harness.provenance import PROJECT, weights_fingerprint
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from timm.models import VisionTransformer

RELEASED = Path(__file__).with_name("released")


@dataclass(frozen=True)
class ImageBackbone:
    """A ViT that experiments can be run on; its own classifier is not part of it.

    `architecture` is timm's name of it; None for our own ViTs, whose card says what they are.
    """

    name: str
    resolution: int
    architecture: str | None = None


_VIT_B16 = "vit_base_patch16_224"
BACKBONES = {
    backbone.name: backbone
    for backbone in (
        # The original ViT-B/16 of ImageNet-21k: VPT's ViT-B_16.npz, converted by timm.
        ImageBackbone(f"{_VIT_B16}.orig_in21k", 224, _VIT_B16),
        # The same model trained again, with augmentation and regularisation (Steiner et al. 2021).
        ImageBackbone(f"{_VIT_B16}.augreg_in21k", 224, _VIT_B16),
        ImageBackbone("small-vit", 32),
        ImageBackbone("pocket-vit", 32),  # trained on the generated world
    )
}


def get(name: str) -> ImageBackbone:
    """The backbone of that name; ZiaError lists the known ones."""
    if name not in BACKBONES:
        raise ZiaError(f"there is no backbone {name!r:.60}; choose from: {', '.join(BACKBONES)}")
    return BACKBONES[name]


def vit_b16() -> str:
    """Which ViT-B/16 of ImageNet-21k this machine has: the original one unless only the other."""
    original, again = f"{_VIT_B16}.orig_in21k", f"{_VIT_B16}.augreg_in21k"
    only_the_other = _folder(again).is_dir() and not _folder(original).is_dir()
    return again if only_the_other else original


def load(backbone: ImageBackbone) -> tuple["VisionTransformer", dict[str, str]]:
    """Load a backbone, in float32 and eval mode on the CPU; give it a classifier before use.

    Returns:
        The model, and the SHA-256 of its weight file by its name.

    Raises:
        ZiaError: the weights are missing, damaged, or another model's.
    """
    folder = _folder(backbone.name)
    if backbone.architecture is not None:
        weights = folder / small_vit.WEIGHTS
        weights = weights if folder.is_dir() else _from_hub(backbone, weights)
        _check_there(backbone, weights)
        return _timm(backbone, weights), weights_fingerprint([weights])
    folder = folder if folder.is_dir() else RELEASED / backbone.name
    weights = folder / small_vit.WEIGHTS
    _check_there(backbone, weights)
    return small_vit.load(folder)[0], weights_fingerprint([weights])


def _folder(name: str) -> Path:
    return Path(os.environ.get(WEIGHTS_VARIABLE) or PROJECT / "weights") / name


def _check_there(backbone: ImageBackbone, weights: Path) -> None:
    if not weights.is_file():
        raise ZiaError(
            f"no weights of {backbone.name}: {weights} does not exist; {_howto(backbone)}"
        )


def _from_hub(backbone: ImageBackbone, wanted: Path) -> Path:
    from huggingface_hub import hf_hub_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        with hub.asked():
            return Path(hf_hub_download(f"timm/{backbone.name}", small_vit.WEIGHTS))
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ZiaError(
            f"no weights of {backbone.name}: {wanted} does not exist, and the hub's "
            f"timm/{backbone.name} cannot be reached ({type(error).__name__}); "
            f"{_howto(backbone)}, or connect to the network"
        ) from error


def _howto(backbone: ImageBackbone) -> str:
    if backbone.architecture is None:
        model = "vit" if backbone.name == "small-vit" else "pocket_vit"
        return (
            f"fetch the project's files again, or run `zia pretrain {model}` and put "
            f"{small_vit.WEIGHTS} and {small_vit.CARD} of that run there"
        )
    return (
        f"put {small_vit.WEIGHTS} of the hub's timm/{backbone.name} there, or set "
        f"${WEIGHTS_VARIABLE} to a folder with {backbone.name}/{small_vit.WEIGHTS}"
    )


def _timm(backbone: ImageBackbone, weights: Path) -> "VisionTransformer":
    import timm
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    assert backbone.architecture is not None
    model: Any = timm.create_model(backbone.architecture, pretrained=False, num_classes=0)
    try:
        tensors = load_file(weights)
        # Its classifier of 21,843 classes, where it has one, is no part of the backbone.
        model.load_state_dict(
            {n: t.float() for n, t in tensors.items() if not n.startswith("head.")}
        )
    except (SafetensorError, OSError, RuntimeError) as error:
        raise ZiaError(
            f"{weights} does not hold the weights of {backbone.name} ({error!s:.120}): fetch it "
            "again"
        ) from error
    return model.eval()
