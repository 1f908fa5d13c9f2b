"""Train all of a model, none of it, or only its head."""

from __future__ import annotations

from torch import nn

from zia_core.attachment import Model
from zia_core.four_bit import refuse_four_bit
from zia_core.head import train_head
from zia_core.rollback import all_or_nothing


def frozen(model: Model) -> Model:
    """Train nothing: the pretrained model itself."""
    model.requires_grad_(False)
    return model


def full(model: Model) -> Model:
    """Train every parameter: full fine-tuning.

    Raises:
        ZiaError: the model is in 4 bits.
    """
    refuse_four_bit(model, "Full fine-tuning")
    model.requires_grad_(True)
    return model


@all_or_nothing
def linear_probe(model: Model) -> Model:
    """Train only the task head.

    Raises:
        ZiaError: the model has no task head.
    """
    return train_head(frozen(model))


def tuned_parameters(model: nn.Module) -> int:
    """The number of trainable parameters."""
    return sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad)
