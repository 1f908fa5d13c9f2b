"""The loss of spans, and the engine's task."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.squad_roberta.features import WindowDataset
from experiments.squad_roberta.windows import IGNORED

if TYPE_CHECKING:
    from torch import Tensor, nn

POSITIONS = ("start_positions", "end_positions")


def span_logits(model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
    """Start and end logits, (B, T) float32 each, minus infinity on padding.

    A window's loss then does not depend on its padding. (P-tuning v2's code pads to 384 and has
    padding in the softmax.)
    """
    inputs = {name: value for name, value in batch.items() if name not in POSITIONS}
    output = model(**inputs)
    padding = inputs["attention_mask"] == 0
    start, end = (
        logits.float().masked_fill(padding, float("-inf"))
        for logits in (output.start_logits, output.end_logits)
    )
    return start, end


def span_loss(model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
    """The summed cross entropy of starts and ends, and their number, two per labelled window.

    Both are scalars on the model's device; their ratio is Devlin et al.'s loss.
    """
    from torch.nn.functional import cross_entropy

    # A sum of no labels is 0 and still has a gradient.
    (start, starts), (end, ends) = (
        (
            cross_entropy(logits, batch[name], ignore_index=IGNORED, reduction="sum"),
            (batch[name] != IGNORED).sum(),
        )
        for logits, name in zip(span_logits(model, batch), POSITIONS, strict=True)
    )
    return start + end, starts + ends


def mean_loss(model: "nn.Module", dataset: WindowDataset, token_budget: int) -> float:
    """The mean cross entropy of starts and ends over all labelled windows, in nats."""
    import torch

    from zia_core.batching import token_micro_batches

    device = next(model.parameters()).device
    total, labels = 0.0, 0
    for group in token_micro_batches(
        [dataset.length(i) for i in range(len(dataset))], token_budget
    ):
        batch = {name: value.to(device) for name, value in dataset.batch(group).items()}
        with torch.no_grad():
            loss, n = span_loss(model, batch)
        total, labels = total + loss.item(), labels + int(n)
    return total / labels


@dataclass(frozen=True)
class SpanTask:
    """Find answers in windows; an example is a window."""

    train: WindowDataset
    validation: WindowDataset
    eval_tokens: int

    def __len__(self) -> int:
        return len(self.train)

    def length(self, index: int) -> int:
        """The number of tokens of a window."""
        return self.train.length(index)

    def labels(self, index: int) -> int:
        """See `WindowDataset.labels`."""
        return self.train.labels(index)

    def record_id(self, index: int) -> str:
        """The id of a window's question."""
        return self.train.record_id(index)

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """See `WindowDataset.batch`."""
        return self.train.batch(indices)

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
        """See `span_loss`."""
        return span_loss(model, batch)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """The mean loss of the held-out windows, in nats."""
        return {"val_loss": mean_loss(model, self.validation, self.eval_tokens)}
