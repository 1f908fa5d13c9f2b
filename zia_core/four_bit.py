"""Frozen backbones in 4 bits, as in QLoRA (arXiv 2305.14314), by bitsandbytes."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType

import torch
from torch import Tensor, nn

from zia_core.attachment import Model, zero_init_layers
from zia_core.blocks import repeated_blocks
from zia_core.errors import ZiaError
from zia_core.quantised import without_packing

__all__ = ["quantise"]


def quantise(model: Model, device: torch.device | str | None = None) -> Model:
    """Make the linear layers in the blocks of a bare model 4-bit, in place, and freeze the model.

    The data type is NF4 in blocks of 64 weights whose scales are quantised in turn (QLoRA's double
    quantisation): 4.127 bits a weight. Embeddings, norms, biases and heads keep their dtype, which
    is also the one of the products.

    Args:
        model: in float32 or bfloat16, before a method is added to it.
        device: where weights are quantised and stay, layer by layer; None for where they are.

    Returns:
        The same model.

    Raises:
        ZiaError: bitsandbytes is not installed, the model has a method or is quantised already,
            or there are no linear layers to quantise.
    """
    library = bitsandbytes()
    name = type(model).__name__
    if zero_init_layers(model) or is_four_bit(model):
        raise ZiaError(f"{name} is adapted or in 4 bits already; quantise the bare model, once.")
    found = [
        (parent, child, layer)
        for block in repeated_blocks(model)
        for parent in block.modules()
        for child, layer in parent.named_children()
        if type(layer) is nn.Linear
    ]
    if not found:
        raise ZiaError(f"{name} has no linear layers in its blocks; do without 4 bits.")
    _keep_the_table_of_scales_real(library)
    for parent, child, layer in found:
        setattr(
            parent, child, _quantised(library, layer, torch.device(device or layer.weight.device))
        )
    model.__dict__["is_loaded_in_4bit"] = True  # PEFT then does not merge into packed weights
    return model.requires_grad_(False)


def _keep_the_table_of_scales_real(library: ModuleType) -> None:
    """Have bitsandbytes make the table that it keeps for the process on the CPU.

    It makes it at the first use, on the device of that use. On the meta device it would be without
    values, for the weights of every later model too.
    """
    with torch.device("cpu"):
        library.functional.quantize_blockwise(torch.zeros(1))


def _quantised(library: ModuleType, layer: nn.Linear, device: torch.device) -> nn.Module:
    made: nn.Module = library.nn.Linear4bit(
        layer.in_features,
        layer.out_features,
        bias=False,
        compute_dtype=layer.weight.dtype,
        device="meta",
    )
    without_packing(made)
    weight = library.nn.Params4bit(
        layer.weight.detach(), requires_grad=False, quant_type="nf4", module=made
    )
    made.weight = weight._quantize(device)
    made.bias = layer.bias
    return made.train(layer.training)


def is_four_bit(model: nn.Module) -> bool:
    """Whether any weight is in 4 bits."""
    return any(getattr(p, "quant_state", None) is not None for p in model.parameters())


def scales(model: nn.Module) -> Iterator[Tensor]:
    """The tensors beside the packed weights, which are neither parameters nor buffers."""
    for parameter in model.parameters():
        state = getattr(parameter, "quant_state", None)
        while state is not None:
            yield from (part for part in vars(state).values() if isinstance(part, Tensor))
            state = state.state2


def refuse_four_bit(model: nn.Module, method: str) -> None:
    """Refuse a 4-bit model for a method that trains the backbone's own weights.

    Raises:
        ZiaError: some weights are in 4 bits.
    """
    if is_four_bit(model):
        raise ZiaError(
            f"{method} trains the backbone's weights, and these are in 4 bits; load them in "
            f"{torch.float32} (precision bf16-autocast computes in bfloat16)."
        )


def bitsandbytes() -> ModuleType:
    """The library.

    Raises:
        ZiaError: it is not installed.
    """
    try:
        with without_kernel_warning():
            import bitsandbytes
    except ImportError as error:
        raise ZiaError(
            "4-bit weights need bitsandbytes, which is not installed; install "
            "zero-init-attention[4bit], or choose another precision."
        ) from error
    return bitsandbytes


@contextmanager
def without_kernel_warning() -> Iterator[None]:
    """Import bitsandbytes, or PEFT, which imports it, without a warning about an unused kernel.

    On CPUs with AVX-512 BF16 it says that it did not download one.
    """
    log = logging.getLogger("bitsandbytes.backends.cpu.ops")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
