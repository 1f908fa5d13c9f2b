"""Cross entropies of responses: of a batch, of a data set, and as the engine's task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.language.examples import Examples
from experiments.language.multimodal import Batch, image_shown
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn


def batch_logits(
    model: "nn.Module", batch: Batch, vocabulary: "Tensor | None" = None
) -> tuple["Tensor", "Tensor"]:
    """The logits (N, V) that predict the labels, and the labels (N,).

    Args:
        model: a causal language model with its method.
        batch: one of `Examples.batch`, on the model's device.
        vocabulary: see `zia_core.losses.label_logits`.
    """
    from zia_core.losses import label_logits, labels_in_order

    with image_shown(model, batch) as (labels, index, inputs):
        logits = label_logits(model, labels, vocabulary, index, **inputs)
        return logits, labels_in_order(labels, index)


def batch_losses(model: "nn.Module", batch: Batch, chunk: int | None = None) -> "Tensor":
    """The cross entropy of every label (N,), sample by sample.

    `chunk` limits the labels whose logits are in memory, see `zia_core.losses.label_losses`.
    """
    from zia_core.losses import label_losses

    with image_shown(model, batch) as (labels, index, inputs):
        return label_losses(model, labels, index, chunk, **inputs)


def example_losses(
    model: "nn.Module", examples: Examples, token_budget: int, chunk: int | None = None
) -> list[tuple[float, int]]:
    """For every example, the sum of its labels' cross entropies and their number."""
    import torch

    from zia_core.batching import token_micro_batches
    from zia_core.losses import label_positions

    device = next(model.parameters()).device
    found = [(0.0, 0)] * len(examples)
    lengths = [examples.length(i) for i in range(len(examples))]
    for group in token_micro_batches(lengths, token_budget):
        batch = {name: value.to(device) for name, value in examples.batch(group).items()}
        with torch.no_grad():
            each = batch_losses(model, batch, chunk)
        counts = label_positions(batch["labels"]).sum(1).tolist()
        for i, part in zip(group, each.double().split(counts), strict=True):
            found[i] = (part.sum().item(), len(part))
    return found


def mean_loss(losses: Sequence[tuple[float, int]]) -> float:
    """The loss per label, over all examples; ZiaError if there is no label."""
    if not (labels := sum(labels for _, labels in losses)):
        raise ZiaError("the predictions are of no response token: do the run again")
    return sum(loss for loss, _ in losses) / labels


@dataclass
class LanguageTask:
    """Learn to respond to prompts, with or without images; a `zia_core.training.Task`."""

    train: Examples
    validation: Examples
    eval_tokens: int  # padded tokens of an evaluation batch
    chunk: int | None = None  # labels whose logits are in memory at a time
    losses: list[tuple[float, int]] | None = None  # of the last evaluation, by validation example

    def __len__(self) -> int:
        return len(self.train)

    def length(self, index: int) -> int:
        """The number of tokens of an example."""
        return self.train.length(index)

    def labels(self, index: int) -> int:
        """The number of response tokens of an example."""
        return self.train.labels(index)

    def record_id(self, index: int) -> str:
        """The id of an example in its data set."""
        return self.train.record_id(index)

    def batch(self, indices: Sequence[int]) -> Batch:
        """See `Examples.batch`."""
        return self.train.batch(indices)

    def loss(self, model: "nn.Module", batch: Batch) -> tuple["Tensor", int]:
        """The summed cross entropy of the response tokens, and their number."""
        each = batch_losses(model, batch, self.chunk)
        return each.sum(), len(each)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """The loss per response token of the validation examples, in nats."""
        self.losses = example_losses(model, self.validation, self.eval_tokens, self.chunk)
        return {"val_loss": mean_loss(self.losses)}
