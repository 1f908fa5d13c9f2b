"""Causal language-model loss with logits only at labelled positions."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Size, Tensor, nn
from torch.nn import functional
from torch.utils.checkpoint import checkpoint

from zia_core.padding import Padding, padding_known
from zia_core.sharding import whole

__all__ = ["causal_lm_loss", "label_index", "label_logits", "label_losses"]

IGNORED = -100


def label_positions(labels: Tensor) -> Tensor:
    """bool (B, T): True at position t when token t + 1 is a label (not -100); last column False."""
    positions = torch.zeros_like(labels, dtype=torch.bool)
    positions[:, :-1] = labels[:, 1:] != IGNORED
    return positions


def label_index(labels: Tensor) -> Tensor:
    """The positions that predict a label, in the flattened B*T tokens.

    Compute it on the CPU, with the batch: on a GPU, the number of labels would force a
    synchronisation.

    Args:
        labels: (B, T), unshifted, -100 where there is no label.

    Returns:
        int64 (labels,): the position before each label, row by row. The first column of `labels`
        has no position before it, and is never a label.
    """
    return label_positions(labels).flatten().nonzero().squeeze(1)


def label_logits(
    model: nn.Module,
    labels: Tensor,
    vocabulary: Tensor | None = None,
    index: Tensor | None = None,
    **inputs: Any,
) -> Tensor:
    """The logits that predict each label, in the order of `label_index`.

    Instruction tuning labels about a third of its tokens, so the (tokens, vocabulary) logits, the
    largest tensor of a small model, shrink accordingly.

    Args:
        model: a transformers causal language model, bare or wrapped by PEFT. Its trunk and head are
            called directly, and Gemma's soft-cap is applied.
        labels: (B, T), unshifted, -100 where there is no label (the first column is never one).
        vocabulary: (V,) token ids to restrict the logits to, which are then float32 products: in
            bfloat16 logits are multiples of 1/8, and options would tie. None: all.
        index: the `label_index` of the labels, if known.
        inputs: of the model, (B, T, ...) each: `input_ids` or `inputs_embeds`, `attention_mask`.

    Returns:
        (labels, V) in float32, or float64 if the model is.
    """
    hidden, head = _labelled(model, labels, index, inputs)
    return _logits(model, head, hidden, vocabulary)


def _labelled(
    model: nn.Module, labels: Tensor, index: Tensor | None, inputs: Mapping[str, Any]
) -> tuple[Tensor, Any]:
    """The hidden states that predict labels, (labels, C), and the head."""
    bare, paddings = _bare(model), dict[Size, Padding]()
    if inputs.get("attention_mask") is None:  # else transformers looks for packed sequences
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
        weight = whole(head.weight)[vocabulary].to(wide)
        bias = None if head.bias is None else whole(head.bias)[vocabulary].to(wide)
        with torch.autocast(hidden.device.type, enabled=False):
            logits = functional.linear(hidden.to(wide), weight, bias)
    softcap = getattr(_bare(model).config.get_text_config(), "final_logit_softcapping", None)
    if softcap is not None:
        logits = softcap * torch.tanh(logits / softcap)
    return logits


def _bare(model: Any) -> Any:
    # PEFT wrappers have a `base_model` of their own.
    return model.get_base_model() if hasattr(model, "get_base_model") else model


def label_losses(
    model: nn.Module,
    labels: Tensor,
    index: Tensor | None = None,
    chunk: int | None = None,
    **inputs: Any,
) -> Tensor:
    """The cross entropy of every label in nats, in the order of `label_index`.

    Args:
        model, labels, index, inputs: see `label_logits`.
        chunk: labels whose logits are in memory at a time (a megabyte each at a vocabulary of
            262,144, and more than once); the backward pass recomputes them. None: all at once.
            Losses differ by rounding only.

    Returns:
        (labels,) in float32, or float64 if the model is.
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
    """The labels themselves, in the order of `label_index`: (labels,)."""
    index = label_index(labels) if index is None else index
    return labels.flatten().index_select(0, index + 1)  # a label is one after its position


def causal_lm_losses(
    model: nn.Module,
    input_ids: Tensor,
    attention_mask: Tensor | None,
    labels: Tensor,
    label_index: Tensor | None = None,
    chunk: int | None = None,
) -> Tensor:
    """`label_losses` of token ids (B, T): (labels,)."""
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
    """The summed cross entropy of all labels of a batch, in nats, and the number of labels.

    Without labels the sum is 0 and still has a gradient.

    Args:
        model: as for `label_logits`.
        input_ids: int64 (B, T).
        attention_mask: (B, T), 1 at tokens and 0 at padding; None: no padding.
        labels: int64 (B, T), unshifted, -100 where there is no label.
        label_index: `label_index(labels)`, if known.
        chunk: as for `label_losses`.
    """
    losses = causal_lm_losses(model, input_ids, attention_mask, labels, label_index, chunk)
    return losses.sum(), len(losses)
