"""Methods that add nothing to the model: all of it, none of it, or its head alone."""

from __future__ import annotations

from torch import nn

from zia_core.attachment import Model
from zia_core.changes import changes_model
from zia_core.head import train_head


def frozen(model: Model) -> Model:
    """The pretrained model: nothing is trained."""
    model.requires_grad_(False)
    return model


def full(model: Model) -> Model:
    """Full fine-tuning: every parameter is trained."""
    model.requires_grad_(True)
    return model


@changes_model
def linear_probe(model: Model) -> Model:
    """The task head alone, on the frozen backbone's features.

    Raises:
        ZiaError: the model has no task head.
    """
    return train_head(frozen(model))


def tuned_parameters(model: nn.Module) -> int:
    """How many parameters are trained."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
