"""Plans of the language experiments with another language model or image encoder."""

from dataclasses import replace
from typing import Any

from experiments.backbones import language_models
from experiments.harness.experiment import Models
from experiments.harness.registry import InvalidChoiceError, check_choice
from experiments.harness.spec import RunSpec
from experiments.images import encoders
from experiments.language import templates
from experiments.language.depth import evenly_spaced, rescaled
from experiments.language.settings import ImageTextSettings, LanguageSettings


def with_models(spec: RunSpec, models: Models) -> RunSpec:
    """Return the run with the models that `models` names.

    The number of adapted layers is the paper's share of the new depth, and the encoder is read at
    six evenly spaced depths. The template of a model in the project's lists is looked at when the
    run begins, if its tokenizer is not in $ZIA_WEIGHTS.

    Raises:
        ZiaError: a model is not there or not supported.
        InvalidChoiceError: an encoder is given to an experiment without images, or a template to
            one with a format of its own.
    """
    settings: LanguageSettings = spec.settings
    name, changes = spec.backbone, dict[str, Any]()
    if models.backbone is not None:
        model = language_models.causal(models.backbone)
        if model.name != name:
            old = language_models.get(name).layers
            name = model.name
            changes["num_layers"] = rescaled(settings.num_layers, old, model.layers)
            if name not in language_models.BACKBONES:
                changes["backbone_layers"] = model.layers
    if models.encoder is not None:
        if not isinstance(settings, ImageTextSettings):
            raise InvalidChoiceError(f"{spec.experiment} has no images, so it takes no --encoder")
        encoder, depth = encoders.named(models.encoder)
        if encoder != settings.encoder:
            changes |= {"encoder": encoder, "depths": evenly_spaced(depth)}
    if models.template is not None:
        if "template" not in vars(settings):
            raise InvalidChoiceError(
                f"{spec.experiment} has its own format of questions, so it takes no --template"
            )
        check_choice("template", models.template, templates.TEMPLATES)
        tokenizer = language_models.tokenizer_here(name)
        if tokenizer is not None:
            templates.named(models.template, tokenizer)
        changes["template"] = models.template
    return replace(spec, backbone=name, settings=replace(settings, **changes))
