"""Show a language model the images of a batch.

Zero-init attention adds an image to its prompts. A model without prompts that has a visual
projection (LoRA) gets the image as one token in front of the words, which nothing attends to in a
sample without an image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.language.examples import IGNORED, with_image_token

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import GenerationConfig

Batch = dict[str, "Tensor"]
WORDS = ("input_ids", "attention_mask")


@contextmanager
def image_shown(
    model: "nn.Module", batch: Batch
) -> "Iterator[tuple[Tensor, Tensor | None, dict[str, Tensor]]]":
    """Labels, their index and the trunk's inputs, for use inside the block."""
    from torch.nn.functional import pad

    words = {name: batch[name] for name in WORDS}
    labels, index = batch["labels"], batch.get("label_index")
    if "features" not in batch:
        yield labels, index, words
    elif _has_prompts(model):
        from zia_core import images

        with images(model, batch["features"], batch["has_image"]):
            yield labels, index, words
    else:
        if index is not None:  # every row is one token longer
            index = index + 1 + index // labels.shape[1]
        yield pad(labels, (1, 0), value=IGNORED), index, _with_image_token(model, batch)


def generate(model: Any, batch: Batch, config: "GenerationConfig") -> "Tensor":
    """The new tokens (B, T) that continue the prompts of a batch about its images."""
    words = {name: batch[name] for name in WORDS}
    width = batch["input_ids"].shape[1]
    if "features" not in batch:
        found: Tensor = model.generate(**words, generation_config=config)
        return found[:, width:]
    if not _has_prompts(model):  # given embeddings, transformers returns the new tokens alone
        return model.generate(**_with_image_token(model, batch), generation_config=config)
    from zia_core import images

    beams = config.num_beams or 1
    features, has_image = (
        batch[name].repeat_interleave(beams, 0) for name in ("features", "has_image")
    )
    with images(model, features, has_image):
        found = model.generate(**words, generation_config=config)
    return found[:, width:]


def _has_prompts(model: "nn.Module") -> bool:
    from zia_core import zero_init_layers

    return bool(zero_init_layers(model))


def _with_image_token(model: Any, batch: Batch) -> dict[str, "Tensor"]:
    """Embeddings (B, 1 + T, C) with the image in front, and their mask."""
    import torch

    from zia_core import visual_projection

    projection, has_image = visual_projection(model), batch["has_image"]
    assert projection is not None
    words = model.get_input_embeddings()(batch["input_ids"])
    image = projection.vectors(batch["features"], has_image).to(words.dtype)[:, None]
    # Nothing attends to an absent image, and the attention's backward pass must not meet it either.
    image = torch.where(has_image[:, None, None], image, torch.zeros_like(image))
    mask = batch.get("image_attention_mask")
    if mask is None:
        mask = with_image_token(has_image, batch["attention_mask"])
    return {"inputs_embeds": torch.cat([image, words], dim=1), "attention_mask": mask}
