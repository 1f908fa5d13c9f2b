"""The task head: new with every task, so it is trained by every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from zia_core.attachment import Model
from zia_core.baselines.precision import compute_in_float32
from zia_core.errors import ZiaError

# What transformers calls the heads of its classification and question-answering models.
_NAMES = ("classifier", "qa_outputs", "score")


def task_head(model: nn.Module) -> nn.Module:
    """The head of a timm classifier or of a transformers `...For<Task>` model.

    A language model's output projection is pretrained and no task head.

    Raises:
        ZiaError: there is none.
    """
    classifier: Callable[[], Any] | None = getattr(model, "get_classifier", None)
    found = [classifier()] if classifier else [getattr(model, name, None) for name in _NAMES]
    for head in found:
        if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
            return head
    raise ZiaError(
        f"{type(model).__name__} has no task head; build the model for its task (timm: "
        "num_classes=..., transformers: a class such as BertForQuestionAnswering)."
    )


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The head's parameters by their names in the model's state dict.

    Raises:
        ZiaError: the model has no task head.
    """
    own = {id(parameter) for parameter in task_head(model).parameters()}
    return {name: p for name, p in model.named_parameters() if id(p) in own}


def train_head(model: Model) -> Model:
    """Train the head beside whatever else is trained: `train_head(attach(model, config))`.

    On a half-precision backbone the head becomes float32 and gives float32 logits.

    Raises:
        ZiaError: the model has no task head.
    """
    head = task_head(model)
    compute_in_float32(head)
    head.requires_grad_(True)
    return model
