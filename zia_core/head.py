"""The task head: new with every task, so it is trained by every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import nn

from zia_core.attachment import Model
from zia_core.changes import changes_model
from zia_core.errors import ZiaError
from zia_core.precision import compute_in_float32
from zia_core.wrappers import own_parameters, unwrapped

# What transformers calls the heads of its classification and question-answering models.
_NAMES = ("classifier", "qa_outputs", "score")
# What transformers and timm call parts between the last layer and a head. Some checkpoints bring
# them and some do not.
_POOLERS = ("pooler", "attn_pool", "fc_norm")


def task_head(model: nn.Module) -> nn.Module:
    """The one head of a timm classifier or of a transformers `...For<Task>` model.

    A language model's output projection is pretrained and no task head.

    Raises:
        ZiaError: there is none, or there are several.
    """
    heads = task_heads(model)
    if len(heads) > 1:
        raise ZiaError(
            f"{type(unwrapped(model)).__name__} has {len(heads)} task heads where one is needed."
        )
    return heads[0]


def task_heads(model: nn.Module) -> list[nn.Module]:
    """The heads of a model for a task; more than one in a distilled DeiT.

    Raises:
        ZiaError: there is none.
    """
    heads = find_heads(model)
    if not heads:
        raise ZiaError(
            f"{type(unwrapped(model)).__name__} has no task head; build the model for its task "
            "(timm: num_classes=..., transformers: a class such as BertForQuestionAnswering)."
        )
    return heads


def find_heads(model: nn.Module) -> list[nn.Module]:
    """`task_heads`, or none for a model without one."""
    model = unwrapped(model)
    classifier: Callable[[], Any] | None = getattr(model, "get_classifier", None)
    if classifier:
        found = classifier()
        candidates = list(found) if isinstance(found, tuple | list) else [found]
    else:
        candidates = [getattr(model, name, None) for name in _NAMES]
    heads = [head for head in candidates if isinstance(head, nn.Module) and _has_parameters(head)]
    return heads if classifier else heads[:1]


def poolers(model: nn.Module) -> list[nn.Module]:
    """Parts between the last layer and the heads, of which a model may have made its own."""
    return [
        module
        for name, module in unwrapped(model).named_modules()
        if name.rpartition(".")[2] in _POOLERS and _has_parameters(module)
    ]


def unread_poolers(model: nn.Module) -> list[nn.Module]:
    """Those of which the model does not say that they were in the checkpoint.

    transformers marks what `from_pretrained` has read. A model of timm, or one made from a
    configuration, has no marks and says nothing.
    """
    return [part for part in poolers(model) if not any(map(_is_read, part.parameters()))]


def fresh_parts(model: nn.Module) -> list[nn.Module]:
    """Poolers of which the model says that they were not in the checkpoint."""
    return unread_poolers(model) if any(map(_is_read, model.parameters())) else []


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters of the heads and of new poolers, by their names in the bare model.

    Raises:
        ZiaError: the model has no task head.
    """
    return by_name(model, [*task_heads(model), *fresh_parts(model)])


def trained_head(model: nn.Module) -> dict[str, nn.Parameter]:
    """Those of `head_parameters` that are trained; none where there is no head."""
    own = by_name(model, [*find_heads(model), *fresh_parts(model)])
    return {name: parameter for name, parameter in own.items() if parameter.requires_grad}


def by_name(model: nn.Module, parts: Iterable[nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters of some parts of a model by their names in the bare model."""
    own = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name: p for name, p in own_parameters(model).items() if id(p) in own}


@changes_model
def train_head(model: Model) -> Model:
    """Train the head beside whatever else is trained: `train_head(attach(model, config))`.

    With it goes a pooler that the checkpoint did not bring, whose weights are random. On a
    half-precision backbone the head becomes float32 and gives float32 logits.

    Raises:
        ZiaError: the model has no task head.
    """
    train_parts([*task_heads(model), *fresh_parts(model)])
    return model


def train_parts(parts: Iterable[nn.Module]) -> None:
    """Train these, in float32 whatever the backbone's precision is."""
    for part in parts:
        _as_ordinary(part)
        compute_in_float32(part)
        part.requires_grad_(True)


def _is_read(parameter: nn.Parameter) -> bool:
    return bool(getattr(parameter, "_is_hf_initialized", False))


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _as_ordinary(head: nn.Module) -> None:
    """Parameters made inside `torch.inference_mode` can neither be trained nor loaded outside."""
    for module in head.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                setattr(module, name, nn.Parameter(parameter.detach().clone()))
