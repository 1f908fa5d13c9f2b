"""Training examples and the validation loss, as the engine asks for them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.language.examples import Examples
from experiments.language.generation import label_losses, losses, mean_loss

if TYPE_CHECKING:
    from torch import Tensor, nn


@dataclass
class ImageTextTask:
    """Language modelling of responses to prompts that may have an image."""

    train: Examples
    validation: Examples
    eval_tokens: int
    chunk: int | None = None  # labels with logits at a time
    found: list[tuple[float, int]] | None = None  # the last evaluation, by validation example

    def __len__(self) -> int:
        return len(self.train)

    def length(self, index: int) -> int:
        """Tokens of an example."""
        return self.train.length(index)

    def labels(self, index: int) -> int:
        """Response tokens of an example."""
        return self.train.labels(index)

    def record_id(self, index: int) -> str:
        """What the data set calls an example."""
        return self.train.record_id(index)

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """As `Examples.batch`."""
        return self.train.batch(indices)

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """Sum of the cross entropies of the response tokens, and their number."""
        each = losses(model, batch, self.chunk)
        return each.sum(), len(each)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """Loss per response token of the validation examples."""
        self.found = label_losses(model, self.validation, self.eval_tokens, self.chunk)
        return {"val_loss": mean_loss(self.found)}
