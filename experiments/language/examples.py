"""Prompts with their responses and, where there is one, an image; and batches of them."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from experiments.images.feature_cache import FeatureTable
from experiments.language.token_rows import TokenRows

if TYPE_CHECKING:
    from torch import Tensor

IGNORED = -100  # the label of a position without loss, as torch and transformers have it


@dataclass(frozen=True)
class Example:
    """One training or evaluation example, tokenised; `image` is a row of the features."""

    id: str
    prompt: list[int]
    response: list[int]  # with its EOS
    image: int | None = None


class Examples:
    """Examples with the features of their images, from which batches are made.

    Without features, batches have none: so a text-only method does not see the images.
    """

    def __init__(self, examples: Sequence[Example], features: FeatureTable | None = None) -> None:
        self._examples, self._features = examples, features
        self._rows = TokenRows.of([each.prompt + each.response for each in examples])
        self.multiple = 1  # of tokens, which a batch is padded to

    def __len__(self) -> int:
        return len(self._examples)

    def __getitem__(self, index: int) -> Example:
        return self._examples[index]

    def changed(self, change: Callable[[Example], Example]) -> "Examples":
        """Other prompts or responses with the same images."""
        return Examples([change(each) for each in self._examples], self._features)

    def length(self, index: int) -> int:
        """Tokens of prompt and response."""
        return self._rows.length(index)

    def labels(self, index: int) -> int:
        """Tokens with a loss: those of the response."""
        return len(self._examples[index].response)

    def record_id(self, index: int) -> str:
        """What the data set calls the example."""
        return self._examples[index].id

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Examples padded on the right: input_ids, attention_mask and labels, int64 [B, T] each.

        Labels are not shifted: label t is token t, or -100 for prompt and padding; label_index says
        where they are, see `zia_core.losses`. With features also those, float32 [B, ...],
        has_image, bool [B], and image_attention_mask, [B, 1 + T]: the mask behind a token for the
        image.
        """
        import torch

        from zia_core.losses import label_index

        # The id of padding is of no consequence: nothing attends to it and it has no label.
        ids, mask = self._rows.padded(indices, multiple=self.multiple)
        prompts = torch.tensor([len(self._examples[index].prompt) for index in indices])[:, None]
        labels = ids.where(mask.bool() & (torch.arange(ids.shape[1]) >= prompts), IGNORED)
        batch = {"input_ids": ids, "attention_mask": mask, "labels": labels}
        batch |= {"label_index": label_index(labels)} | self.shown(indices)
        if "has_image" in batch:
            batch["image_attention_mask"] = behind_image(batch["has_image"], mask)
        return batch

    def prompts(self, indices: Sequence[int], padding: int) -> dict[str, "Tensor"]:
        """Prompts alone, padded on the left so that all end together; features as in `batch`."""
        import torch

        prompts = [self._examples[index].prompt for index in indices]
        width = max(map(len, prompts))
        ids = torch.full((len(prompts), width), padding)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, width - len(prompt) :] = torch.tensor(prompt)
            mask[row, width - len(prompt) :] = 1
        return {"input_ids": ids, "attention_mask": mask} | self.shown(indices)

    def shown(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Features and has_image of examples; nothing without features."""
        import torch

        if self._features is None:
            return {}
        images = [self._examples[index].image for index in indices]
        features = torch.zeros(len(images), *self._features.shape)
        seen = [row for row, image in enumerate(images) if image is not None]
        if seen:
            features[seen] = self._features.rows([i for i in images if i is not None])
        has_image = torch.tensor([image is not None for image in images])
        return {"features": features, "has_image": has_image}


def behind_image(has_image: "Tensor", mask: "Tensor") -> "Tensor":
    """The mask [B, 1 + T] of texts with a token for the image in front, where there is one."""
    import torch

    return torch.cat([has_image[:, None].to(mask.dtype), mask], dim=1)
