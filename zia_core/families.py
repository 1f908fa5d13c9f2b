"""Model families: find attention layers and project prompts with their frozen weights.

A family is an attention class. All we rely on in its forward pass is that queries, keys and values
can be reached between the input projections (with norm and rotary embedding) and the output
projection. Only classes with a parity test against a naive reference are listed.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.errors import ZiaError
from zia_core.layer import Geometry, Projection
from zia_core.wrappers import bare_class

TRANSFORMERS = {
    "LlamaAttention",
    "MistralAttention",
    "Qwen2Attention",
    "Qwen3Attention",
    "GemmaAttention",
    "Gemma2Attention",
    "Gemma3Attention",
    "BertSelfAttention",
    "RobertaSelfAttention",
    "ViTAttention",
    "CLIPAttention",
}
# The modules that define the attention of timm's ViTs; some thirty others have an `Attention` too.
TIMM = {"timm.layers.attention", "timm.models.vision_transformer"}
_TIMM_PARTS = ("qkv", "q_norm", "k_norm", "norm", "attn_drop", "num_heads", "head_dim", "scale")
FAMILIES = "LLaMA, Mistral, Qwen2, Qwen3, Gemma 1-3, BERT, RoBERTa, ViT, CLIP and timm ViTs"


@dataclass(frozen=True)
class Layer:
    """An attention layer of a backbone, with its name in `named_modules`."""

    name: str
    attention: nn.Module
    timm: bool


def attention_layers(model: nn.Module) -> list[Layer]:
    """The attention layers of a model with a single tower, lowest first.

    Raises:
        ZiaError: the model has no supported layer, or several towers (attach to one of them).
    """
    towers: dict[str, list[Layer]] = {}
    for name, module in model.named_modules():
        if (timm := _is_timm(module)) or _is_transformers(module):
            # "model.layers.3.self_attn" belongs to the tower "model.layers".
            tower = re.split(r"(?:^|\.)\d+(?:\.|$)", name, maxsplit=1)[0]
            towers.setdefault(tower, []).append(Layer(name, module, timm))
    if not towers:
        raise ZiaError(_unsupported(model))
    if len(towers) > 1:
        raise ZiaError(
            f"{type(model).__name__} has several towers ({', '.join(towers)}); attach to the "
            "submodule of one of them."
        )
    return next(iter(towers.values()))


def _is_transformers(module: nn.Module) -> bool:
    kind = bare_class(module)
    return kind.__name__ in TRANSFORMERS and "transformers" in kind.__module__


def _is_timm(module: nn.Module) -> bool:
    kind = bare_class(module)
    return (
        kind.__name__ == "Attention"
        and kind.__module__ in TIMM
        and all(hasattr(module, part) for part in _TIMM_PARTS)
    )


def _unsupported(model: nn.Module) -> str:
    kinds = {
        type(m).__name__: m
        for m in model.modules()
        if "attention" in type(m).__name__.lower() and any(True for _ in m.parameters())
    }
    found = "no attention layer was found in it"
    if kinds:
        kind, module = next(iter(kinds.items()))
        linear = [n for n, p in module.named_children() if any(True for _ in p.parameters())]
        found = (
            f"its attention {type(module).__module__}.{kind} (with "
            f"{', '.join(linear) or 'no projections'}) is not among the tested families {FAMILIES}"
        )
    return f"Zero-init attention cannot be attached to {type(model).__name__}: {found}."


def _projections(attention: Any) -> tuple[nn.Module, nn.Module, nn.Module]:
    if hasattr(attention, "k_proj"):
        return attention.q_proj, attention.k_proj, attention.v_proj
    return attention.query, attention.key, attention.value


def _head_dim(attention: Any) -> int:
    return int(getattr(attention, "head_dim", 0) or attention.attention_head_size)


def geometry(layer: Layer) -> Geometry:
    """The sizes of a layer, read off its projections (hidden/heads need not be the head width)."""
    attention: Any = layer.attention
    head_dim = _head_dim(attention)
    if layer.timm:
        plain = isinstance(attention.k_norm, nn.Identity)
        heads = int(attention.num_heads)
        return Geometry(attention.qkv.in_features, heads, heads, head_dim, plain)
    q_proj, k_proj, _ = (p for p in _projections(attention))
    plain = (
        not hasattr(attention, "k_norm")
        and getattr(attention, "attn_logit_softcapping", None) is None
    )
    return Geometry(
        width=int(k_proj.in_features),  # type: ignore[arg-type]
        heads=int(q_proj.out_features) // head_dim,  # type: ignore[arg-type]
        kv_heads=int(k_proj.out_features) // head_dim,  # type: ignore[arg-type]
        head_dim=head_dim,
        linear_scores=plain,
    )


def projection(attention: Any) -> Projection:
    """K_p and V_p of a transformers layer: frozen k and v projections, key norm, no rotary."""

    def project(prompt: Tensor) -> tuple[Tensor, Tensor]:
        # Looked up here and not above, since cached prompts need no projection.
        _, k_proj, v_proj = _projections(attention)
        head_dim, key_norm = _head_dim(attention), getattr(attention, "k_norm", None)
        key, value = (
            proj(prompt).unflatten(-1, (-1, head_dim)).transpose(-3, -2)
            for proj in (k_proj, v_proj)
        )
        return (key if key_norm is None else key_norm(key)), value

    return project


def timm_projection(attention: Any) -> Projection:
    """K_p and V_p by the key and value thirds of timm's fused qkv weight."""

    def project(prompt: Tensor) -> tuple[Tensor, Tensor]:
        query_width = attention.num_heads * attention.head_dim
        bias = attention.qkv.bias
        both = nn.functional.linear(
            prompt,
            attention.qkv.weight[query_width:],
            None if bias is None else bias[query_width:],
        )
        both = both.unflatten(-1, (2, attention.num_heads, attention.head_dim))
        key, value = both.movedim(-3, 0).transpose(-3, -2)
        return attention.k_norm(key), value

    return project


def parameter_dtype(attention: nn.Module) -> tuple[torch.device, torch.dtype]:
    """Device and dtype for prompts and gates: the layer's device, float32 or float64.

    Half-precision prompts would lose most optimiser updates; the released training code also keeps
    them in float32 over float16 weights.
    """
    weight = next(p for p in attention.parameters())
    wide = weight.dtype == torch.float64
    return weight.device, torch.float64 if wide else torch.float32
