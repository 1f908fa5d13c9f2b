"""Find and train the task head, which is new with every task and so trained by every method."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

from torch import nn

from zia_core.errors import ZiaError
from zia_core.precision import compute_in_float32
from zia_core.quantised import is_quantised
from zia_core.rollback import all_or_nothing
from zia_core.wrappers import own_parameters, unwrapped

Model = TypeVar("Model", bound=nn.Module)

# Heads of transformers' classification and question-answering models.
_NAMES = ("classifier", "qa_outputs", "score")
# Modules of transformers and timm between the last layer and a head; not in every checkpoint.
_POOLERS = ("pooler", "attn_pool", "fc_norm")


def task_head(model: nn.Module) -> nn.Module:
    """The head of a timm classifier or of a transformers `...For<Task>` model.

    The pretrained output projection of a language model does not count.

    Raises:
        ZiaError: the model has no head, or several.
    """
    heads = task_heads(model)
    if len(heads) > 1:
        raise ZiaError(
            f"{type(unwrapped(model)).__name__} has {len(heads)} task heads where one is needed."
        )
    return heads[0]


def task_heads(model: nn.Module) -> list[nn.Module]:
    """All task heads of a model; a distilled DeiT has two.

    Raises:
        ZiaError: the model has none.
    """
    heads = find_heads(model)
    if not heads:
        raise ZiaError(
            f"{type(unwrapped(model)).__name__} has no task head; build the model for its task "
            "(timm: num_classes=..., transformers: a class such as BertForQuestionAnswering)."
        )
    return heads


def find_heads(model: nn.Module) -> list[nn.Module]:
    """`task_heads`, but empty for a model without one."""
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
    """Modules between the last layer and the heads, pretrained or newly initialised."""
    return [
        module
        for name, module in unwrapped(model).named_modules()
        if name.rpartition(".")[2] in _POOLERS and _has_parameters(module)
    ]


def unmarked_poolers(model: nn.Module) -> list[nn.Module]:
    """Poolers that are not marked as read from the checkpoint.

    transformers' `from_pretrained` marks what it reads. Models of timm or built from a config have
    no marks.
    """
    return [part for part in poolers(model) if not any(map(_is_read, part.parameters()))]


def new_parts(model: nn.Module) -> list[nn.Module]:
    """Heads, and poolers that may be random; quantised ones count as a part of the backbone."""
    parts = [*find_heads(model), *unmarked_poolers(model)]
    return [part for part in parts if not any(map(is_quantised, part.parameters()))]


def fresh_poolers(model: nn.Module) -> list[nn.Module]:
    """Poolers known to be missing from the checkpoint, and therefore random."""
    return unmarked_poolers(model) if any(map(_is_read, model.parameters())) else []


def head_parameters(model: nn.Module) -> dict[str, nn.Parameter]:
    """The parameters that `train_head` makes trainable, by their names in the bare model.

    Raises:
        ZiaError: the model has no task head.
    """
    return by_name(model, [*task_heads(model), *fresh_poolers(model)])


def trained_head(model: nn.Module) -> dict[str, nn.Parameter]:
    """The trainable ones of `head_parameters`; empty if there is no head."""
    own = by_name(model, [*find_heads(model), *fresh_poolers(model)])
    return {name: parameter for name, parameter in own.items() if parameter.requires_grad}


def by_name(model: nn.Module, parts: Iterable[nn.Module]) -> dict[str, nn.Parameter]:
    """The parameters of some modules of a model, by their names in the bare model."""
    own = {id(parameter) for part in parts for parameter in part.parameters()}
    return {name: p for name, p in own_parameters(model).items() if id(p) in own}


@all_or_nothing
def train_head(model: Model) -> Model:
    """Make the task head trainable, in place: `train_head(attach(model, config))`.

    A pooler that was missing from the checkpoint is trained too. On a half-precision backbone the
    head becomes float32 and returns float32 logits.

    Args:
        model: a timm classifier, or a transformers model for classification or question answering.

    Raises:
        ZiaError: the model has no task head, or a quantised one.
    """
    train_parts([*task_heads(model), *fresh_poolers(model)])
    return model


def train_parts(parts: Iterable[nn.Module]) -> None:
    """Make modules trainable, in float32 whatever the backbone's precision.

    Raises:
        ZiaError: one has quantised weights.
    """
    for part in parts:
        refuse_quantised(part)
        _as_ordinary(part)
        compute_in_float32(part)
        part.requires_grad_(True)


def refuse_quantised(part: nn.Module) -> None:
    """Refuse a head that can be neither trained nor loaded.

    Raises:
        ZiaError: it has quantised weights.
    """
    for parameter in part.parameters():
        if is_quantised(parameter):
            raise ZiaError(
                f"The task head is quantised ({type(parameter).__name__}), so it can be neither "
                "trained nor loaded; quantise the model without its head."
            )


def _is_read(parameter: nn.Parameter) -> bool:
    return bool(getattr(parameter, "_is_hf_initialized", False))


def _has_parameters(module: nn.Module) -> bool:
    return any(True for _ in module.parameters())


def _as_ordinary(head: nn.Module) -> None:
    """Replace inference tensors, which can be neither trained nor loaded, by ordinary ones."""
    for module in head.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            if parameter.is_inference():
                setattr(module, name, nn.Parameter(parameter.detach().clone()))
