"""Attach zero-init attention to a model and detach it again."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from zia_core.call_state import Condition, PromptCache, within_call
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import Layer, attention_layers, geometry, parameter_dtype
from zia_core.layer import ZeroInit
from zia_core.offloading import refuse_offloaded
from zia_core.quantised import pack_again, without_packing
from zia_core.rollback import all_or_nothing
from zia_core.training_mistakes import unwatch, watch, watch_saving
from zia_core.visual.projections import VisualProjection
from zia_core.wrappers import refuse_sharing, unwrapped

Model = TypeVar("Model", bound=nn.Module)


@all_or_nothing
def attach(
    model: Model, config: ZeroInitConfig | None = None, *, tower: str | None = None
) -> Model:
    """Freeze a backbone and add prompts and gates to its topmost layers, in place (eqs 2-8).

    Prompts are drawn from torch's global generator. They and the gates are float32, or float64 on a
    float64 backbone. At `gate_init=0` the model's outputs are bitwise the backbone's.

    Args:
        model: a supported transformers or timm model. It may be compiled or have PEFT adapters.
        config: the paper's (K=10, L=30) if None.
        tower: which one to adapt in a model with several, by its name or a part of it:
            "vision_model" of CLIP, "language_model" of LLaVA. All of the model is frozen.

    Returns:
        The same model. Only parameters named `...zero_init.prompt` and `...zero_init.gate` require
        gradients.

    Raises:
        ZiaError: unsupported model, no such tower or several, more layers requested than it has,
            offloaded weights, or already attached. The model is unchanged.
    """
    config, bare = config or ZeroInitConfig(), unwrapped(model)
    if not isinstance(config, ZeroInitConfig):
        raise ZiaError(f"attach takes a ZeroInitConfig, not a {type(config).__name__}.")
    if zero_init_layers(model):
        raise ZiaError(
            f"{type(bare).__name__} already has zero-init attention; call detach(model) first."
        )
    refuse_sharing(model, "zero-init attention")
    layers = attention_layers(bare, tower)
    if config.num_layers > len(layers):
        raise ZiaError(
            f"num_layers={config.num_layers} but {type(bare).__name__} has {len(layers)} "
            f"attention layers; ask for at most {len(layers)}."
        )
    refuse_offloaded(bare, "Zero-init attention cannot be attached to")
    hooks = [_hook(config, found) for found in layers[-config.num_layers :]]
    was_trainable = [name for name, p in bare.named_parameters() if p.requires_grad]
    model.requires_grad_(False)
    for hook, found in zip(hooks, layers[-config.num_layers :], strict=True):
        hook.install(found.attention)
    state: Any = bare.__dict__
    state["_zero_init_was_trainable"] = was_trainable
    if callable(getattr(bare, "generate", None)):
        # Neither a closure nor a bound method: deepcopy and pickle rebind it to the copy.
        state["generate"] = partial(_generate, bare)
    state["_zero_init_was_packing"] = without_packing(bare)
    watch(bare)
    watch_saving(model)
    return model


@all_or_nothing
def detach(model: Model) -> Model:
    """Remove all adapters in place: the backbone is as before `attach`, `requires_grad` too.

    Raises:
        ZiaError: the model has no zero-init attention.
    """
    adapted = [m for m in model.modules() if isinstance(getattr(m, "zero_init", None), ZeroInit)]
    if not adapted:
        raise ZiaError(f"{type(model).__name__} has no zero-init attention to detach.")
    for attention in adapted:
        layer: Any = attention.zero_init
        layer.uninstall(attention)
    for parent in list(model.modules()):
        if isinstance(getattr(parent, "visual_projection", None), VisualProjection):
            del parent.visual_projection
    bare = unwrapped(model)
    unwatch(model)
    was_trainable = set(bare.__dict__.pop("_zero_init_was_trainable", ()))
    bare.__dict__.pop("generate", None)
    pack_again(bare.__dict__.pop("_zero_init_was_packing", ()))
    for name, parameter in bare.named_parameters():
        parameter.requires_grad_(name in was_trainable)
    return model


def zero_init_layers(model: nn.Module) -> list[ZeroInit]:
    """The modules of the adapted layers, lowest first; without named adapters.

    Each has `prompt`, [K, C] (or keys and values, [2, K, G*D]), `gate`, [H] or [1], and
    `strength()`, the gate after its activation. The joint softmax has no gate.
    """
    return [m for m in model.modules() if isinstance(m, ZeroInit) and m.owner is None]


def layers_of_call(model: nn.Module) -> list[ZeroInit]:
    """`zero_init_layers`, to set what holds for one call.

    Raises:
        ZiaError: the model is not adapted, or is a DataParallel on several GPUs.
    """
    layers = zero_init_layers(model)
    if not layers:
        raise ZiaError(f"{type(model).__name__} has no zero-init attention; call attach() first.")
    if isinstance(model, nn.DataParallel) and len(model.device_ids) > 1:
        raise ZiaError(
            "DataParallel runs copies of the model in threads that see no condition; use "
            "DistributedDataParallel."
        )
    return layers


@contextmanager
def frozen_prompts(model: Model) -> Iterator[Model]:
    """Compute prompt keys and values once and reuse them within the block, while autograd is off.

    `generate` does this by itself; use it around a loop of evaluation passes.
    """
    states = {layer: layer.state for layer in zero_init_layers(model)}
    # Nested blocks share the outermost cache.
    with within_call(
        {
            layer: replace(state, cache=PromptCache())
            for layer, state in states.items()
            if state.cache is None
        }
    ):
        yield model


@contextmanager
def condition(
    model: Model, vectors: Tensor | None, present: Tensor | None = None
) -> Iterator[Model]:
    """Add per-sample vectors to the prompts of all L layers within the block (eqs 9-10).

    `images` does this with an image's features. On exit the previous condition is restored, so
    blocks nest. It applies to this thread or asyncio task only. With gradient checkpointing, run
    the backward pass inside the block too.

    Args:
        model: an adapted model with hidden prompts.
        vectors: one vector per sample for all K prompts, [B, C], or one per prompt, [B, K, C];
            None for no condition.
        present: bool [B], which samples have vectors; None for all. The others get their
            unconditioned output, bitwise for a batch of the same shape.

    Raises:
        ZiaError: the model is not adapted, `vectors` or `present` has the wrong shape or dtype, or
            the model is a DataParallel on several GPUs.
    """
    layers, given = layers_of_call(model), None
    if vectors is not None:
        length, width = layers[0].config.prompt_length, layers[0].geometry.width
        if vectors.shape[1:] not in ((width,), (length, width)):
            raise ZiaError(
                f"The condition has the shape {tuple(vectors.shape)}; give [B, {width}] or "
                f"[B, {length}, {width}]."
            )
        if present is not None and (
            present.dtype is not torch.bool or present.shape != vectors.shape[:1]
        ):
            raise ZiaError(
                f"present is {present.dtype} of the shape {tuple(present.shape)} and there are "
                f"vectors of {len(vectors)} samples; give one bool per sample."
            )
        given = Condition(vectors, present)
    with within_call({layer: replace(layer.state, condition=given) for layer in layers}):
        yield model


def _hook(config: ZeroInitConfig, found: Layer) -> Any:
    """Build the layer's hook; imports a library only for its own models."""
    shape, (device, dtype) = geometry(found), parameter_dtype(found.attention)
    if found.timm:
        from zia_core.timm_hook import TimmZeroInit

        hook: Any = TimmZeroInit(config, shape, device, dtype)
    else:
        from zia_core.transformers_hook import TransformersZeroInit

        hook = TransformersZeroInit(config, shape, device, dtype)
    hook.check(found.attention)
    hook.untrainable = any(p.is_inference() for p in found.attention.parameters())
    return hook


def _generate(self: Any, *args: Any, **kwargs: Any) -> Any:
    with frozen_prompts(self):
        return type(self).generate(self, *args, **kwargs)
