"""Plans of the language experiments with another language model or image encoder."""

from dataclasses import replace
from typing import Any

from experiments.backbones import language_models
from experiments.harness.experiment import Backbones
from experiments.harness.registry import InvalidChoiceError
from experiments.harness.spec import RunSpec
from experiments.images import encoders
from experiments.language.depth import evenly_spaced, rescaled
from experiments.language.settings import ImageTextSettings, LanguageSettings


def with_backbones(spec: RunSpec, backbones: Backbones) -> RunSpec:
    """Return the run with the models that `backbones` names.

    The number of adapted layers is the paper's share of the new depth, and the encoder is read at
    six evenly spaced depths.

    Raises:
        ZiaError: a model is not there or not supported.
        InvalidChoiceError: an encoder is given to an experiment without images.
    """
    settings: LanguageSettings = spec.settings
    name, changes = spec.backbone, dict[str, Any]()
    if backbones.backbone is not None:
        model = language_models.causal(backbones.backbone)
        if model.name != name:
            old = language_models.get(name).layers
            name = model.name
            changes["num_layers"] = rescaled(settings.num_layers, old, model.layers)
            if name not in language_models.BACKBONES:
                changes["backbone_layers"] = model.layers
    if backbones.encoder is not None:
        if not isinstance(settings, ImageTextSettings):
            raise InvalidChoiceError(f"{spec.experiment} has no images, so it takes no --encoder")
        encoder, depth = encoders.named(backbones.encoder)
        if encoder != settings.encoder:
            changes |= {"encoder": encoder, "depths": evenly_spaced(depth)}
    return replace(spec, backbone=name, settings=replace(settings, **changes))
