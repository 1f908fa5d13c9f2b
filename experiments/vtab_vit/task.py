"""The engine's task: classify images."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.images.task_folder import Example

if TYPE_CHECKING:
    from torch import Tensor, nn

    from zia_core.trunk import Trunk


def logits(model: "nn.Module", inputs: "Tensor", trunk: "Trunk | None") -> "Tensor":
    """(B, classes) of images (B, 3, R, R), or of a trunk's features (B, T, C)."""
    found: Tensor = trunk.logits(model, inputs) if trunk else model(inputs)
    return found


class Training:
    """Images and labels; with a trunk, its features instead of the images."""

    def __init__(
        self, examples: Sequence[Example], inputs: "Tensor", tokens: int, trunk: "Trunk | None"
    ) -> None:
        import torch

        self._examples, self._inputs, self._tokens, self._trunk = examples, inputs, tokens, trunk
        self._labels = torch.tensor([example.label for example in examples])

    def __len__(self) -> int:
        return len(self._examples)

    def length(self, index: int) -> int:
        """The number of tokens of an image, without prompts."""
        return self._tokens

    def labels(self, index: int) -> int:
        """An image has one label."""
        return 1

    def record_id(self, index: int) -> str:
        """The image's path in the task's folder."""
        return self._examples[index].name

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Images (B, 3, R, R) or features (B, T, C), and labels (B,)."""
        rows = list(indices)
        return {"inputs": self._inputs[rows], "labels": self._labels[rows]}

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """The summed cross entropy of the images, and their number."""
        from torch.nn.functional import cross_entropy

        labels = batch["labels"]
        found = logits(model, batch["inputs"], self._trunk)
        return cross_entropy(found.float(), labels, reduction="sum"), len(labels)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """Nothing: a run is scored once, after the last step."""
        return {}
