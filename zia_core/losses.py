"""Causal language-model loss that computes vocabulary logits only where there is a label."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from zia_core.padding import Padding, padding_known

IGNORED = -100


def label_positions(labels: Tensor) -> Tensor:
    """Bool (B, T): True at position t when token t + 1 is a label (not -100); last column False."""
    positions = torch.zeros_like(labels, dtype=torch.bool)
    positions[:, :-1] = labels[:, 1:] != IGNORED
    return positions


def label_index(labels: Tensor) -> Tensor:
    """`label_positions` as (labels,) int64 positions in the flattened (B*T).

    To be made with the batch, on the CPU: how many labels there are is what a GPU must be waited
    for to learn.
    """
    return label_positions(labels).flatten().nonzero().squeeze(1)


def label_logits(
    model: nn.Module,
    labels: Tensor,
    vocabulary: Tensor | None = None,
    index: Tensor | None = None,
    **inputs: Any,
) -> Tensor:
    """The logits that each label is predicted from, in the order of `label_positions`: (labels, V).

    Args:
        model: a transformers causal language model, bare or wrapped by PEFT. The trunk runs without
            the outer forward; of what that adds besides the head, Gemma's soft-cap is applied.
        labels: (B, T), unshifted, -100 where a token is not to be predicted (the first column never
            is). Instruction tuning has labels on about a third of its tokens, so the
            (tokens, vocabulary) logits, the largest tensor of a small model, shrink accordingly.
        vocabulary: (V,) ids of the only tokens whose logits are wanted, in float32 products: those
            of bfloat16 are multiples of 1/8 at the size of logits, so options would tie.
        index: the `label_index` of the labels, if it is known.
        inputs: what the trunk takes, (B, T, ...) each: input_ids or inputs_embeds, attention_mask.

    Returns:
        float32 (float64 if the model is).
    """
    hidden, head = _labelled(model, labels, index, inputs)
    return _logits(model, head, hidden, vocabulary)


def _labelled(
    model: nn.Module, labels: Tensor, index: Tensor | None, inputs: Mapping[str, Any]
) -> tuple[Tensor, Any]:
    """The hidden states that labels are predicted from, (labels, C), and the head."""
    bare, paddings = _bare(model), dict[Size, Padding]()
    if inputs.get("attention_mask") is None:  # transformers would look for texts packed in a row
        inputs = {**inputs, "attention_mask": torch.ones_like(labels)}
        paddings = {labels.shape: Padding.NONE}
    with padding_known(paddings):
        hidden = bare.base_model(**inputs, use_cache=False).last_hidden_state
    index = label_index(labels) if index is None else index
    return hidden.flatten(0, 1).index_select(0, index), bare.get_output_embeddings()


def _logits(model: nn.Module, head: Any, hidden: Tensor, vocabulary: Tensor | None) -> Tensor:
    """(labels, C) -> (labels, V)."""
    if vocabulary is None:
        logits = head(hidden)
        logits = logits.to(torch.promote_types(logits.dtype, torch.float32))
    else:
        wide = torch.promote_types(hidden.dtype, torch.float32)
        bias = None if head.bias is None else head.bias[vocabulary].to(wide)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = functional.linear(hidden.to(wide), head.weight[vocabulary].to(wide), bias)
    softcap = getattr(_bare(model).config.get_text_config(), "final_logit_softcapping", None)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits


def _bare(model: Any) -> Any:
    # PEFT wrappers forward `base_model` to their own inner object, hence the bare model first.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def label_losses(
    model: nn.Module,
    labels: Tensor,
    index: Tensor | None = None,
    chunk: int | None = None,
    **inputs: Any,
) -> Tensor:
    """The cross entropy of every label, in the order of `label_positions`: (labels,).

    Args:
        model, labels, index, inputs: see `label_logits`.
        chunk: labels whose logits there are at a time, in the backward pass too, where they are
            made a second time: of a vocabulary of 262,144 a label's logits take a megabyte, and
            more than once. None: all. The losses differ by rounding alone, as products of other
            sizes do.
    """
    hidden, head = _labelled(model, labels, index, inputs)
    targets = labels_in_order(labels, index)

    def losses(hidden: Tensor, targets: Tensor) -> Tensor:
        logits = _logits(model, head, hidden, None)
        return functional.cross_entropy(logits, targets, reduction="none")

    if chunk is None or len(hidden) <= chunk:
        return losses(hidden, targets)
    return torch.cat(
        [
            checkpoint(losses, *part, use_reentrant=False)
            for part in zip(hidden.split(chunk), targets.split(chunk), strict=True)
        ]
    )


def labels_in_order(labels: Tensor, index: Tensor | None = None) -> Tensor:
    """The labels themselves, in the order of `label_positions`: (labels,)."""
    index = label_index(labels) if index is None else index
    return labels.flatten().index_select(0, index + 1)  # each is one behind its position


def causal_lm_losses(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    label_index: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """The cross entropy of every label, in the order of `label_positions`: (labels,).

    All inputs are (B, T), but for the index; see `label_losses`.
    """
    return label_losses(
        model, labels, label_index, chunk, input_ids=input_ids, attention_mask=attention_mask
    )


def causal_lm_loss(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    label_index: Tensor | None = None,
    chunk: int | None = None,
) -> tuple[Tensor, int]:
    """The sum of `causal_lm_losses`, a scalar, and the number of labels.

    The sum of no labels is 0, and still has a gradient.
    """
    losses = causal_lm_losses(model, input_ids, attention_mask, labels, label_index, chunk)
    return losses.sum(), len(losses)
