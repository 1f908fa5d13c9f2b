"""The task head: new with every task, so it is trained by every method."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from torch import nn

from zia_core.attachment import Model
from zia_core.changes import changes_model
from zia_core.errors import ZiaError
from zia_core.precision import compute_in_float32

# What transformers calls the heads of its classification and question-answering models.
_NAMES = ("classifier", "qa_outputs", "score")


def task_head(model: nn.Module) -> nn.Module:
    """The head of a timm classifier or of a transformers `...For<Task>` model.

    A language model's output projection is pretrained and no task head.

    Raises:
        ZiaError: there is none.
    """
    head = find_head(model)
    if head is None:
        raise ZiaError(
            f"{type(model).__name__} has no task head; build the model for its task (timm: "
            "num_classes=..., transformers: a class such as BertForQuestionAnswering)."
        )
    return head


def find_head(model: nn.Module) -> nn.Module | None:
    """`task_head`, or None for a model without one."""
    classifier: Callable[[], Any] | None = getattr(model, "get_classifier", None)
    found = [classifier()] if classifier else [getattr(model, name, None) for name in _NAMES]
    for head in found:
        if isinstance(head, nn.Module) and any(True for _ in head.parameters()):
            return head
    return None


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The head's parameters by their names in the model's state dict.

    Raises:
        ZiaError: the model has no task head.
    """
    return _by_name(model, task_head(model))


def trained_head(model: nn.Module) -> dict[str, nn.Parameter]:
    """The head's parameters that are trained, by name; none where there is no head."""
    head = find_head(model)
    own = {} if head is None else _by_name(model, head)
    return {name: parameter for name, parameter in own.items() if parameter.requires_grad}


def _by_name(model: nn.Module, head: nn.Module) -> dict[str, nn.Parameter]:
    own = {id(parameter) for parameter in head.parameters()}
    return {name: p for name, p in model.named_parameters() if id(p) in own}


@changes_model
def train_head(model: Model) -> Model:
    """Train the head beside whatever else is trained: `train_head(attach(model, config))`.

    On a half-precision backbone the head becomes float32 and gives float32 logits.

    Raises:
        ZiaError: the model has no task head.
    """
    head = task_head(model)
    _as_ordinary(head)
    compute_in_float32(head)
    head.requires_grad_(True)
    return model


def _as_ordinary(head: nn.Module) -> None:
    """Parameters made inside `torch.inference_mode` can neither be trained nor loaded outside."""
    for module in head.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                setattr(module, name, nn.Parameter(parameter.detach().clone()))
