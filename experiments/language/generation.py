"""A language model that reads a batch with its images: losses, logits, generated text.

How an image is shown depends on the model. With zero-init attention it is added to the prompts; a
model without prompts that has a projection (LoRA) gets it as one token in front of the words, which
nothing attends to in a sample without an image.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from experiments.language.examples import IGNORED, Examples, behind_image
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn
    from transformers import PreTrainedTokenizerBase

Batch = dict[str, "Tensor"]


def read(
    model: "nn.Module", batch: Batch, vocabulary: "Tensor | None" = None
) -> tuple["Tensor", "Tensor"]:
    """Logits that the labels are predicted from, and the labels: [N, V] and [N].

    Args:
        batch: one of `Examples.batch`, on the model's device.
        vocabulary: as in `zia_core.losses.label_logits`.
    """
    from zia_core.losses import label_logits, labels_in_order

    with _shown(model, batch) as (labels, index, inputs):
        logits = label_logits(model, labels, vocabulary, index, **inputs)
        return logits, labels_in_order(labels, index)


def losses(model: "nn.Module", batch: Batch, chunk: int | None = None) -> "Tensor":
    """The cross entropy of every label, in the order of the samples: [N].

    `chunk` is as of `zia_core.losses.label_losses`.
    """
    from zia_core.losses import label_losses

    with _shown(model, batch) as (labels, index, inputs):
        return label_losses(model, labels, index, chunk, **inputs)


@contextmanager
def _shown(
    model: "nn.Module", batch: Batch
) -> "Iterator[tuple[Tensor, Tensor | None, dict[str, Tensor]]]":
    """Labels, where they are, and what the trunk takes, while the model sees the images."""
    from torch.nn.functional import pad

    words = {name: batch[name] for name in ("input_ids", "attention_mask")}
    labels, index = batch["labels"], batch.get("label_index")
    if "features" not in batch:
        yield labels, index, words
    elif _has_prompts(model):
        from zia_core import images

        with images(model, batch["features"], batch["has_image"]):
            yield labels, index, words
    else:
        if index is not None:  # every row is longer by one
            index = index + 1 + index // labels.shape[1]
        yield pad(labels, (1, 0), value=IGNORED), index, _with_token(model, batch)


def label_losses(
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
            each = losses(model, batch, chunk)
        counts = label_positions(batch["labels"]).sum(1).tolist()
        for i, part in zip(group, each.double().split(counts), strict=True):
            found[i] = (part.sum().item(), len(part))
    return found


def mean_loss(found: Sequence[tuple[float, int]]) -> float:
    """The loss per response token, over all examples."""
    if not (labels := sum(labels for _, labels in found)):
        raise ZiaError("the predictions are of no response token: do the run again")
    return sum(loss for loss, _ in found) / labels


def answers(
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    examples: Examples,
    together: int,
    **decoding: Any,
) -> Iterator[str]:
    """The model's answers to the examples' prompts, in order, so many of them at once.

    `decoding` is of transformers' generation config: max_new_tokens, do_sample, num_beams, ...
    """
    import torch
    from transformers import GenerationConfig

    device = next(model.parameters()).device
    end = tokenizer.eos_token_id
    config = GenerationConfig(
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=end,
        # LLaMA has no padding token; what is padded is masked, so any id does.
        pad_token_id=end if tokenizer.pad_token_id is None else tokenizer.pad_token_id,
        **decoding,
    )
    for start in range(0, len(examples), together):
        chosen = range(start, min(start + together, len(examples)))
        batch = examples.prompts(chosen, config.pad_token_id)
        batch = {name: value.to(device) for name, value in batch.items()}
        with torch.no_grad():
            generated = _generated(model, batch, config)
        for text in tokenizer.batch_decode(generated, skip_special_tokens=True):
            yield text.strip()


def _generated(model: Any, batch: Batch, config: Any) -> "Tensor":
    """The new tokens alone."""
    words = {name: batch[name] for name in ("input_ids", "attention_mask")}
    width = batch["input_ids"].shape[1]
    if "features" not in batch:
        found: Tensor = model.generate(**words, generation_config=config)
        return found[:, width:]
    if not _has_prompts(model):  # given embeddings, it returns what follows them
        return model.generate(**_with_token(model, batch), generation_config=config)
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


def _with_token(model: Any, batch: Batch) -> dict[str, "Tensor"]:
    """Embeddings [B, 1 + T, C] with the image in front, and their mask."""
    import torch

    from zia_core import visual_projection

    projection, has_image = visual_projection(model), batch["has_image"]
    assert projection is not None
    words = model.get_input_embeddings()(batch["input_ids"])
    image = projection.vectors(batch["features"], has_image).to(words.dtype)[:, None]
    # Nothing attends to it, and the attention's backward pass must not meet it either.
    image = torch.where(has_image[:, None, None], image, torch.zeros_like(image))
    mask = batch.get("image_attention_mask")
    if mask is None:
        mask = behind_image(has_image, batch["attention_mask"])
    return {"inputs_embeds": torch.cat([image, words], dim=1), "attention_mask": mask}
