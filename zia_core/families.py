"""The model families: where attention layers are, and how their frozen weights project a prompt.

A family is an attention class whose forward pass we rely on in one respect only: queries, keys and
values can be reached between the projections (with norm and rotary embedding) and the output
projection. A class is listed when a parity test against a naive reference exists for it.
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
# Where timm's ViTs have theirs from; some thirty other modules of timm call theirs `Attention` too.
TIMM = {"timm.layers.attention", "timm.models.vision_transformer"}
_TIMM_PARTS = ("qkv", "q_norm", "k_norm", "norm", "attn_drop", "num_heads", "head_dim", "scale")
FAMILIES = "LLaMA, Mistral, Qwen2, Qwen3, Gemma 1-3, BERT, RoBERTa, ViT, CLIP and timm ViTs"


@dataclass(frozen=True)
class Layer:
    """One attention layer of a backbone, `name` as in `named_modules`."""

    name: str
    attention: nn.Module
    timm: bool


def attention_layers(model: nn.Module) -> list[Layer]:
    """The attention layers of a model's one tower, lowest first.

    Raises:
        ZiaError: the model has none of a supported kind, or several towers (attach to one of them).
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
    """The sizes of a layer, read from its own projections (never inferred from hidden/heads)."""
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
    """K_p and V_p of a transformers layer: frozen k and v projection, key norm, never rotary."""

    def project(prompt: Tensor) -> tuple[Tensor, Tensor]:
        # Looked up here, since while prompts are kept nobody calls this.
        _, k_proj, v_proj = _projections(attention)
        head_dim, key_norm = _head_dim(attention), getattr(attention, "k_norm", None)
        key, value = (
            proj(prompt).unflatten(-1, (-1, head_dim)).transpose(-3, -2)
            for proj in (k_proj, v_proj)
        )
        return (key if key_norm is None else key_norm(key)), value

    return project


def timm_projection(attention: Any) -> Projection:
    """The same for timm's fused qkv weight, of which the query third is not computed."""

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
    """Where and in what precision prompts and gates are kept: the layer's device, float32 or more.

    Half-precision prompts would lose most optimiser updates; the released training code also keeps
    them in float32 over float16 weights.
    """
    weight = next(p for p in attention.parameters())
    wide = weight.dtype == torch.float64
    return weight.device, torch.float64 if wide else torch.float32
