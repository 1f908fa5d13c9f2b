"""Tokenised prompts with their responses, with or without images, and batches of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Self

from experiments.images.feature_cache import FeatureTable
from experiments.language.token_rows import TokenRows, padded

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # the label of a position without loss, as in torch and transformers


@dataclass(frozen=True)
class Example:
    """One example, tokenised; `image` is a row of the features."""

    id: str
    prompt: Sequence[int]
    response: Sequence[int]  # with its EOS
    image: int | None = None


class Examples:
    """Examples, numbered from 0, with the features of their images.

    Without features a batch has no images, which is how a text-only method does not see them.
    """

    def __init__(self, examples: Sequence[Example], features: FeatureTable | None = None) -> None:
        self._rows = TokenRows.of([[*each.prompt, *each.response] for each in examples])
        self._prompt_lengths = [len(each.prompt) for each in examples]
        self._ids = [each.id for each in examples]
        self._images, self._features = [each.image for each in examples], features
        self.multiple = 1  # a batch is padded to a multiple of so many tokens

    @classmethod
    def of_texts(cls, texts: Sequence[Sequence[int]]) -> Self:
        """Tokenised texts of which every token but the first is predicted."""
        return cls([Example(str(i), [], text) for i, text in enumerate(texts)])

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, index: int) -> Example:
        prompt, ids = self._prompt_lengths[index], self._rows[index].tolist()
        return Example(self._ids[index], ids[:prompt], ids[prompt:], self._images[index])

    def changed(self, change: Callable[[Example], Example]) -> "Examples":
        """Examples with other prompts or responses and the same features."""
        return Examples([change(self[i]) for i in range(len(self))], self._features)

    def length(self, index: int) -> int:
        """The number of tokens of prompt and response."""
        return self._rows.length(index)

    def labels(self, index: int) -> int:
        """The number of tokens with a loss: those of the response."""
        return self._rows.length(index) - self._prompt_lengths[index]

    def record_id(self, index: int) -> str:
        """The id of the example in its data set."""
        return self._ids[index]

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """A batch for training or for its loss, padded on the right.

        Returns:
            input_ids, attention_mask and labels, (B, T) int64 each. Labels are not shifted: label t
            is token t, or -100 in prompt and padding; label_index is that of `zia_core.losses`.
            With features also `image_batch`, and image_attention_mask (B, 1 + T), the mask with one
            more token in front for the image.
        """
        import torch

        from zia_core.losses import label_index

        # Any id does for padding: nothing attends to it and it has no label.
        ids, mask = self._rows.padded(indices, multiple=self.multiple)
        prompts = torch.tensor([self._prompt_lengths[index] for index in indices])[:, None]
        labels = ids.where(mask.bool() & (torch.arange(ids.shape[1]) >= prompts), IGNORED)
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        batch |= {"label_index": label_index(labels)} | self.image_batch(indices)
        if "has_image" in batch:
            batch["image_attention_mask"] = with_image_token(batch["has_image"], mask)
        return batch

    def prompts(self, indices: Sequence[int], padding: int) -> dict[str, "Tensor"]:
        """A batch of prompts for generation, padded on the left so that they end together.

        Returns:
            input_ids and attention_mask, (B, T) int64 each; with features also `image_batch`.
        """
        prompts = [self._rows[index][: self._prompt_lengths[index]] for index in indices]
        ids, mask = padded(prompts, padding, "left")
        return {"input_ids": ids, "attention_mask": mask} | self.image_batch(indices)

    def image_batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """features (B, ...) float32 and has_image (B,) bool; empty without features."""
        import torch

        if self._features is None:
            return {}
        images = [self._images[index] for index in indices]
        features = torch.zeros(len(images), *self._features.shape)
        present = [row for row, image in enumerate(images) if image is not None]
        if present:
            features[present] = self._features.rows([i for i in images if i is not None])
        has_image = torch.tensor([image is not None for image in images])
        return {"features": features, "has_image": has_image}


def with_image_token(has_image: "Tensor", mask: "Tensor") -> "Tensor":
    """The mask (B, 1 + T) of texts with a token in front for the image, where there is one."""
    import torch

    return torch.cat([has_image[:, None].to(mask.dtype), mask], dim=1)
