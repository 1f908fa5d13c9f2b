"""Attach a visual projection and show images to the model."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from zia_core.attachment import Model, condition, zero_init_layers
from zia_core.errors import ZiaError
from zia_core.rollback import all_or_nothing
from zia_core.visual.config import VisualConfig
from zia_core.visual.projections import GlobalProjection, QueryProjection, VisualProjection
from zia_core.wrappers import refuse_sharing, unwrapped


@all_or_nothing
def attach_visual(model: Model, config: VisualConfig) -> Model:
    """Add a trainable projection of image features to an adapted model, in place (eqs 9-10).

    Its parameters are the model's `visual_projection...`, so the state dict, optimiser, adapter
    files and data-parallel training need nothing special. They are float32 (float64 on a float64
    backbone) and drawn from torch's global generator. At zero gates the model's outputs stay
    bitwise the backbone's.

    Args:
        model: after `attach`, with hidden prompts.
        config: of the projection.

    Returns:
        The same model; `images` shows it images.

    Raises:
        ZiaError: no zero-init attention, no hidden prompts, a projection already, or a backbone
            with a `visual_projection` of its own.
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
    """The module that `attach_visual` added to a bare or wrapped model; None without one."""
    return next((m for m in model.modules() if isinstance(m, VisualProjection)), None)


@contextmanager
def images(model: Model, features: Tensor, has_image: Tensor | None = None) -> Iterator[Model]:
    """Show the model an image with each sample that has one, within the block (eqs 9-10).

    The projection is computed once, on entry, for all layers and all tokens generated inside. With
    gradient checkpointing, run the backward pass inside the block too. Other threads are not
    affected, so if `generate` runs in its own thread, enter the block there.

    A sample without an image gets its output without this block: bitwise in float32, for a batch of
    the same shape. With ``global``, prompt keys are shared over the batch, unless the model has a
    key norm or soft-cap. Then, and with ``queries``, every layer computes K keys and values per
    sample, and a batch with `has_image` computes the prompt term twice.

    Args:
        model: after `attach_visual`, bare or wrapped.
        features: an image encoder's output, one row per sample (per beam in beam search): for
            ``global``, [B, M*E], global features of M depths side by side; for ``queries``,
            [B, N, E], all N tokens of one layer.
        has_image: bool [B]; rows of `features` without an image are not read. None: all have one.

    Raises:
        ZiaError: no visual projection, or `features` or `has_image` has the wrong shape or dtype.
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
            f"features of {len(features)} samples; give one bool per sample."
        )
    with condition(model, projection.vectors(features, has_image), has_image):
        yield model
