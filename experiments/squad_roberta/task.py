"""Training windows and the validation loss, as the engine asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.squad_roberta.features import WindowDataset
from experiments.squad_roberta.windows import IGNORED

if TYPE_CHECKING:
    from torch import Tensor, nn

POSITIONS = ("start_positions", "end_positions")


def span_logits(model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
    """Start and end logits, float32 [B, T] each, minus infinity on padding.

    So a window's loss does not depend on what it is padded to. (P-tuning v2's code pads to 384 and
    has padding in the soft-max.)
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
    """Sum of the cross entropies of starts and ends, and their number: two a labelled window.

    Both are scalars on the model's device.

    Divided by the number it is Devlin et al.'s loss, the mean of start and end.
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
    """Mean of start and end cross entropy over all labelled windows, in nats."""
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
    """The windows of the training questions; an example of the engine is a window."""

    train: WindowDataset
    validation: WindowDataset
    eval_tokens: int

    def __len__(self) -> int:
        return len(self.train)

    def length(self, index: int) -> int:
        """Tokens of a window."""
        return self.train.length(index)

    def labels(self, index: int) -> int:
        """2, start and end; 0 for a window whose answer has no tokens."""
        return self.train.labels(index)

    def record_id(self, index: int) -> str:
        """The id of a window's question."""
        return self.train.record_id(index)

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """What the model takes, and the labels."""
        return self.train.batch(indices)

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", "Tensor"]:
        """As `span_loss`."""
        return span_loss(model, batch)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """The loss on the windows of the held-out questions."""
        return {"val_loss": mean_loss(model, self.validation, self.eval_tokens)}
