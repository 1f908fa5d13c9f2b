"""Put a visual projection beside zero-init attention, and show images to the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zia_core.attachment import Model, condition, zero_init_layers
from zia_core.changes import changes_model
from zia_core.errors import ZiaError
from zia_core.visual.config import VisualConfig
from zia_core.visual.projections import GlobalProjection, QueryProjection, VisualProjection
from zia_core.wrappers import refuse_sharing, unwrapped


@changes_model
def attach_visual(model: Model, config: VisualConfig) -> Model:
    """Add a projection of image features to a model that has zero-init attention.

    Its parameters are the model's, `visual_projection...`, so state dict, optimiser, adapter files
    and data-parallel training need nothing special. They are float32 (float64 on a float64
    backbone) and drawn from torch's global generator. Whatever they are, at zero gates the model's
    outputs are bitwise the backbone's.

    Args:
        model: after `attach`, with hidden prompts.
        config: the named choices.

    Returns:
        The same model; show it images with `with images(model, features, has_image):`.

    Raises:
        ZiaError: no zero-init attention, no hidden prompts, a projection already, or a backbone
            with a part of that name.
    """
    layers, bare = zero_init_layers(model), unwrapped(model)
    name = type(bare).__name__
    if not layers:
        raise ZiaError(f"{name} has no zero-init attention; call attach() first.")
    if layers[0].config.prompt_source != "hidden":
        raise ZiaError(
            "An image is added to hidden prompts and prompt_source='key_value' has none; use "
            "prompt_source='hidden'."
        )
    if visual_projection(model) is not None:
        raise ZiaError(f"{name} already has a visual projection; call detach(model) first.")
    if hasattr(bare, "visual_projection"):
        raise ZiaError(
            f"{name} has a part called visual_projection of its own; attach to its encoder."
        )
    refuse_sharing(model, "the visual projection")
    prompt, length = layers[0].prompt, layers[0].config.prompt_length
    width = layers[0].geometry.width
    module: VisualProjection
    if config.projection == "global":
        module = GlobalProjection(config, width)
    else:
        module = QueryProjection(config, width, length)
    bare.add_module("visual_projection", module.to(prompt.device, prompt.dtype))
    return model


def visual_projection(model: nn.Module) -> VisualProjection | None:
    """The projection of a model, wrapped (by DistributedDataParallel, say) or bare, or None."""
    return next((m for m in model.modules() if isinstance(m, VisualProjection)), None)


@contextmanager
def images(model: Model, features: Tensor, has_image: Tensor | None = None) -> Iterator[Model]:
    """Within the block, the model sees an image with every sample of the batch that has one.

    The projection is computed once, on entry, for all layers, and for all tokens that are generated
    inside. With gradient checkpointing the backward pass must run inside the block too. Other
    threads do not see it: enter it in the one that calls the model, where `generate` runs in one of
    its own.

    A sample without an image gets exactly the output that the same adapter gives without this
    block: bitwise, in float32, for a batch of the same shape. With ``global`` the keys of the
    prompts are shared over the batch (models without key norm and soft-cap; with them, and with
    ``queries``, every layer makes K keys and values for each sample, and a batch with
    `has_image` takes the prompt term twice).

    Args:
        model: after `attach_visual`; a wrapper around it will do.
        features: [B, F] for ``global`` (the depths' global features side by side), [B, N, E] for
            ``queries``. One row a sample of the batch; under beam search, one a beam.
        has_image: bool [B]; rows of `features` without an image are not read. None: all have one.

    Raises:
        ZiaError: no visual projection, features of another shape, or `has_image` is no bool [B].
    """
    projection = visual_projection(model)
    if projection is None:
        raise ZiaError(
            f"{type(model).__name__} has no visual projection; call attach_visual() first."
        )
    if has_image is not None and (
        has_image.dtype is not torch.bool or has_image.shape != features.shape[:1]
    ):
        raise ZiaError(
            f"has_image is {has_image.dtype} of the shape {tuple(has_image.shape)} and there are "
            f"features of {len(features)} samples; give one bool a sample."
        )
    with condition(model, projection.vectors(features, has_image), has_image):
        yield model
