"""Model families: find attention layers and project prompts with their frozen weights.

A family is an attention class. All we rely on in its forward pass is that queries, keys and values
can be reached between the input projections (with norm and rotary embedding) and the output
projection. Only classes with a parity test against a naive reference are listed.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.errors import ZiaError
from zia_core.layer import Geometry, Projection
from zia_core.projections import FAMILIES, Family, KeysValues, separate
from zia_core.refusals import unsupported
from zia_core.wrappers import bare_class

# The parts of timm's classes that the hook uses, by module: some thirty others have an `Attention`.
_VIT = ("qkv", "q_norm", "k_norm", "norm", "attn_drop", "num_heads", "head_dim", "scale")
_BIASED = ("qkv", "proj", "attn_drop", "num_heads", "scale", "relative_position_bias_table")
TIMM = {
    "timm.layers.attention.Attention": _VIT,
    "timm.models.vision_transformer.Attention": _VIT,
    "timm.models.beit.Attention": _BIASED,
    "timm.models.swin_transformer.WindowAttention": _BIASED,
}
_NO_NORM = nn.Identity()
_registered: dict[type[nn.Module], Family] = {}


@dataclass(frozen=True)
class Layer:
    """An attention layer of a backbone, with its name in `named_modules`."""

    name: str
    attention: nn.Module
    timm: bool


def attention_layers(model: nn.Module, tower: str | None = None) -> list[Layer]:
    """The attention layers of one tower of a model, lowest first.

    Args:
        model: without wrappers.
        tower: its name or a part of it, such as "vision_model"; if None, the only one or the one
            that is adapted.

    Raises:
        ZiaError: the model has no supported layer, no such tower, or several to choose from.
    """
    found, name = towers(model), type(model).__name__
    if not found:
        raise ZiaError(unsupported(model))
    if tower is not None:
        fitting = [each for each in found if f".{tower}." in f".{each}."]
    else:
        adapted = [each for each, layers in found.items() if any(map(_is_adapted, layers))]
        fitting = adapted or list(found)
    if not fitting:
        raise ZiaError(f"{name} has no tower {tower!r}; it has {', '.join(found)}.")
    if len(fitting) > 1:
        raise ZiaError(
            f"{name} has several towers ({', '.join(fitting)}); choose one: attach(model, config, "
            f"tower={fitting[0]!r}), or pass its submodule."
        )
    return found[fitting[0]]


def towers(model: nn.Module) -> dict[str, list[Layer]]:
    """All attention layers of a model, by tower: "model.layers.3.self_attn" is of "model.layers".

    A CLIP model has one of text and one of images.
    """
    found: dict[str, list[Layer]] = {}
    for name, module in model.named_modules():
        if (timm := _is_timm(module)) or _is_layer(module):
            found.setdefault(tower_of(name), []).append(Layer(name, module, timm))
    return found


def tower_of(name: str) -> str:
    """The tower of a layer or parameter, from its name; the same if a part of it is wrapped."""
    bare = re.sub(r"(?<![^.])_(orig_mod|(fsdp|checkpoint)_wrapped_module)(\.|$)", "", name)
    return re.split(r"(?:^|\.)\d+(?:\.|$)", bare, maxsplit=1)[0]


def _is_adapted(layer: Layer) -> bool:
    return "zero_init" in layer.attention._modules


def register_family(
    attention: type[nn.Module],
    keys_values: KeysValues | None = None,
    geometry: Callable[[Any], Geometry] | None = None,
) -> None:
    """Make an attention class of transformers known to `attach`.

    Its forward pass must get the attention function from transformers' registry, as nearly all
    classes do. Check `keys_values` first: it must give the layer's own keys and values for the same
    input, before the rotary embedding.

    Args:
        attention: the class, such as `type(model.model.layers[0].self_attn)`.
        keys_values: maps a layer and hidden states, [..., K, C], to keys and values,
            [..., G, K, D] each. Not needed for a class like LLaMA's, with `q_proj`, `k_proj`,
            `v_proj`, `o_proj` and no other part.
        geometry: maps a layer to its sizes; read off those four projections if None.

    Raises:
        ZiaError: `attention` is not a class of modules.
    """
    if not (isinstance(attention, type) and issubclass(attention, nn.Module)):
        raise ZiaError(f"register_family takes a class of modules, not {attention!r}.")
    like_llama = separate()
    _registered[attention] = Family(
        keys_values or like_llama.keys_values,
        geometry or like_llama.geometry,
        like_llama.parts if keys_values is None else None,
    )


def family_of(attention: nn.Module) -> Family | None:
    """The family of a transformers attention layer; None for other modules."""
    kind = bare_class(attention)
    if kind in _registered:
        return _registered[kind]
    return FAMILIES.get(kind.__name__) if "transformers" in kind.__module__ else None


def _is_layer(module: nn.Module) -> bool:
    # In GPT-2 an attention to an encoder's output has the same class.
    return family_of(module) is not None and not getattr(module, "is_cross_attention", False)


def _is_timm(module: nn.Module) -> bool:
    kind = bare_class(module)
    parts = TIMM.get(f"{kind.__module__}.{kind.__name__}")
    return parts is not None and all(hasattr(module, part) for part in parts)


def geometry(layer: Layer) -> Geometry:
    """The sizes of a layer, read off its projections (hidden/heads need not be the head width)."""
    attention: Any = layer.attention
    if (family := family_of(attention)) is not None:
        return family.geometry(attention)
    heads = int(attention.num_heads)
    plain = isinstance(getattr(attention, "k_norm", _NO_NORM), nn.Identity)
    return Geometry(attention.qkv.in_features, heads, heads, timm_width(attention) // heads, plain)


def projection(attention: Any) -> Projection:
    """K_p and V_p of a transformers layer, by its frozen weights, without rotary embedding."""
    family = family_of(attention)
    assert family is not None
    return partial(family.keys_values, attention)


def timm_projection(attention: Any) -> Projection:
    """K_p and V_p by the key and value thirds of timm's fused qkv weight."""

    def project(prompt: Tensor) -> tuple[Tensor, Tensor]:
        both = timm_qkv(attention, prompt, slice(timm_width(attention), None))
        both = both.unflatten(-1, (2, attention.num_heads, -1))
        key, value = both.movedim(-3, 0).transpose(-3, -2)
        return getattr(attention, "k_norm", _NO_NORM)(key), value

    return project


def timm_qkv(attention: Any, hidden: Tensor, columns: slice) -> Tensor:
    """Columns of what timm's fused layer makes of hidden states: [..., C] -> [..., columns]."""
    weight, bias = attention.qkv.weight, attention.qkv.bias
    if (beside := getattr(attention, "q_bias", None)) is not None:
        beside = torch.cat((beside, attention.k_bias, attention.v_bias))[columns]
    if type(attention.qkv) is nn.Linear and type(weight) is nn.Parameter:
        own = beside if bias is None else bias[columns]
        return nn.functional.linear(hidden, weight[columns], own)
    # Quantised weights may have no rows, and LoRA is beside the weight.
    found: Tensor = attention.qkv(hidden)[..., columns]
    return found if beside is None else found + beside


def timm_width(attention: Any) -> int:
    """H*D, the width of queries, keys and values each."""
    return int(attention.qkv.out_features) // 3


def parameter_dtype(attention: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype for prompts and gates: the layer's device, float32 or float64.

    Half-precision prompts would lose most optimiser updates; the released training code also keeps
    them in float32 over float16 weights.
    """
    weight = next(p for p in attention.parameters())
    wide = weight.dtype == torch.float64
    return weight.device, torch.float64 if wide else torch.float32
