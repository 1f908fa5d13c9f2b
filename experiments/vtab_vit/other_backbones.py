"""The plan of `vtab_vit` with another ViT."""

from dataclasses import replace
from typing import Any

from experiments.backbones import own, vision_models
from experiments.harness.experiment import Models
from experiments.harness.registry import InvalidChoiceError
from experiments.harness.spec import RunSpec
from experiments.images import encoders
from experiments.images.encoder_preprocessing import protocol_of
from experiments.images.protocols import PROTOCOLS
from experiments.vtab_vit.settings import Settings
from zia_core.errors import ZiaError


def with_models(spec: RunSpec, models: Models) -> RunSpec:
    """Return the run with another ViT.

    The number of adapted layers is the profile's share of the new depth; the paper gives none. The
    resolution is the model's own, and so is the normalisation of images.

    Raises:
        ZiaError: the model is not there, is not a ViT, or has a normalisation of no protocol.
    """
    if models.encoder is not None:
        raise InvalidChoiceError(f"{spec.experiment} has one model: name it with --backbone")
    if models.template is not None or models.backbone is None:
        raise InvalidChoiceError(f"{spec.experiment} has no text, so it takes no --template")
    backbone, settings = vision_models.vit(models.backbone), spec.settings
    if backbone.name == spec.backbone:
        return spec
    ratio = backbone.layers / vision_models.get(spec.backbone).layers
    changes: dict[str, Any] = {
        name: max(1, round(ratio * number))
        for name in ("num_layers", "adapted_blocks")
        if (number := getattr(settings, name)) is not None
    }
    changes["resolution"] = backbone.resolution
    if own.is_own(backbone.name):
        changes |= _preprocessing(backbone.name, settings)
    elif vision_models.CLIP.name in (backbone.name, spec.backbone):
        changes["protocol"] = encoders.PROTOCOLS.get(backbone.name, Settings.protocol)
    return replace(spec, backbone=backbone.name, settings=replace(settings, **changes))


def _preprocessing(name: str, settings: Settings) -> dict[str, Any]:
    """The resolution, and a protocol with the model's normalisation, if possible the plan's."""
    wanted = protocol_of(own.files_of(name), name)
    for protocol in (PROTOCOLS[settings.protocol], *PROTOCOLS.values()):
        if (protocol.mean, protocol.std) == (wanted.mean, wanted.std):
            return {"protocol": protocol.name, "resolution": wanted.resolution}
    raise ZiaError(
        f"{name} normalises images with mean {wanted.mean} and std {wanted.std}, as none of the "
        f"protocols {', '.join(PROTOCOLS)} does"
    )
