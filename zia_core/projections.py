"""How each transformers attention class makes keys and values, so that prompts get the same.

All that a class does to them before the rotary embedding is repeated: biases, norms per head or
before the split into heads, clipping, fused weights. A layer with parameters that are not known
here is refused: they would be skipped silently.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from zia_core.errors import ZiaError
from zia_core.layer import Geometry

# (attention, hidden states [..., K, C]) -> keys and values [..., G, K, D].
KeysValues = Callable[[Any, Tensor], tuple[Tensor, Tensor]]
# (attention, output of a projection [..., K, G*D]) -> keys or values [..., G, K, D].
Split = Callable[[Any, Tensor], Tensor]


@dataclass(frozen=True)
class Family:
    """How one attention class makes keys and values from hidden states.

    Attributes:
        keys_values: hidden states to keys and values, without rotary embedding.
        geometry: the sizes of a layer.
        parts: the children and parameters that a layer may have; None to accept any.
    """

    keys_values: KeysValues
    geometry: Callable[[Any], Geometry]
    parts: frozenset[str] | None = None

    def check(self, attention: nn.Module) -> None:
        """Refuse a layer whose keys and values `keys_values` may not repeat.

        Raises:
            ZiaError: it has parameters that are not known, or computes attention itself.
        """
        name = type(attention).__name__
        present = {path.partition(".")[0] for path, _ in attention.named_parameters()}
        if self.parts is not None and (unknown := present - self.parts - {"zero_init"}):
            raise ZiaError(
                f"Zero-init attention cannot be attached to this {name}: it is not known what its "
                f"{', '.join(sorted(unknown))} does to keys and values. A projection is missing; "
                "give one with zia_core.register_family."
            )
        if getattr(attention, "reorder_and_upcast_attn", False):
            raise ZiaError(
                f"A {name} with reorder_and_upcast_attn computes attention itself, so its own hook "
                "is missing; load the model with reorder_and_upcast_attn=False."
            )


def head_dim(attention: Any) -> int:
    """D, under the name that the class has for it."""
    names = ("head_dim", "attention_head_size", "head_size")
    return int(next(filter(None, (getattr(attention, name, None) for name in names))))


def heads(attention: Any, flat: Tensor) -> Tensor:
    """Split into heads."""
    return flat.unflatten(-1, (-1, head_dim(attention))).transpose(-3, -2)


def normed_heads(norm: str) -> Split:
    """Split into heads, then apply a norm of width D in layers that have it."""

    def split(attention: Any, flat: Tensor) -> Tensor:
        key = heads(attention, flat)
        return getattr(attention, norm)(key) if hasattr(attention, norm) else key

    return split


def cohere_heads(attention: Any, flat: Tensor) -> Tensor:
    """Split into heads, then apply a norm with weights [G, D] in layers that have it."""
    key = flat.unflatten(-1, (-1, head_dim(attention)))
    return (attention.k_norm(key) if hasattr(attention, "k_norm") else key).transpose(-3, -2)


def stablelm_heads(attention: Any, flat: Tensor) -> Tensor:
    """Split into heads, then apply each head's own norm in layers that have them."""
    key = heads(attention, flat)
    if not hasattr(attention, "k_layernorm"):
        return key
    norms = attention.k_layernorm.norms
    return torch.stack([norm(k) for norm, k in zip(norms, key.unbind(-3), strict=True)], dim=-3)


def clipped_heads(attention: Any, flat: Tensor) -> Tensor:
    """Clamp to +-`clip_qkv` if the model's config has one, then split into heads."""
    bound = attention.config.clip_qkv
    return heads(attention, flat if bound is None else flat.clamp(-bound, bound))


def normed_before_split(attention: Any, flat: Tensor) -> Tensor:
    """Apply one norm of width G*D, then split into heads."""
    return heads(attention, attention.k_norm(flat))


def olmoe_heads(attention: Any, flat: Tensor) -> Tensor:
    """Apply one norm of width G*D, clamp, then split into heads."""
    return clipped_heads(attention, attention.k_norm(flat))


_NORMS = ("k_norm", "k_layernorm", "qk_norm")


def _is_linear(attention: Any) -> bool:
    """Whether scores are linear in the prompts."""
    return (
        not any(hasattr(attention, norm) for norm in _NORMS)
        and getattr(attention, "attn_logit_softcapping", None) is None
        and getattr(getattr(attention, "config", None), "clip_qkv", None) is None
    )


def separate(
    names: str = "q_proj k_proj v_proj o_proj",
    key_heads: Split = heads,
    value_heads: Split = heads,
    others: str = "",
) -> Family:
    """A class with one linear layer each for queries, keys and values.

    Args:
        names: of these layers, and of the output's if the class has it.
        key_heads: splits the keys, with what the class does to them.
        value_heads: the same for values.
        others: further parts, which `key_heads` knows or which keys and values do not pass.
    """
    query_name, key_name, value_name, *_ = names.split()

    def keys_values(attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        key, value = getattr(attention, key_name)(hidden), getattr(attention, value_name)(hidden)
        return key_heads(attention, key), value_heads(attention, value)

    def geometry(attention: Any) -> Geometry:
        query, key = getattr(attention, query_name), getattr(attention, key_name)
        width, size = int(key.in_features), head_dim(attention)
        groups = int(key.out_features) // size  # width / heads need not be the head width
        return Geometry(width, int(query.out_features) // size, groups, size, _is_linear(attention))

    return Family(keys_values, geometry, frozenset(f"{names} {others}".split()))


def fused(names: str, split: KeysValues) -> Family:
    """A class with one linear layer for queries, keys and values together.

    Args:
        names: of this layer and of the output's.
        split: (attention, output of the layer [..., K, width]) -> keys and values [..., G, K, D].
    """

    def keys_values(attention: Any, hidden: Tensor) -> tuple[Tensor, Tensor]:
        # The whole layer and not a part of its weight, which may be quantised or have LoRA beside.
        return split(attention, getattr(attention, names.split()[0])(hidden))

    def geometry(attention: Any) -> Geometry:
        config = attention.config
        heads, size = int(config.num_attention_heads), head_dim(attention)
        groups = int(getattr(attention, "num_key_value_heads", heads))
        return Geometry(int(config.hidden_size), heads, groups, size, _is_linear(attention))

    return Family(keys_values, geometry, frozenset(names.split()))


def _phi3(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor]:
    """[queries | keys | values], with fewer key-value heads than heads."""
    width = attention.num_key_value_heads * head_dim(attention)
    key, value = qkv[..., -2 * width : -width], qkv[..., -width:]
    return heads(attention, key), heads(attention, value)


def _gpt2(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor]:
    """[queries | keys | values]."""
    _, key, value = qkv.chunk(3, dim=-1)
    return heads(attention, key), heads(attention, value)


def _gpt_neox(attention: Any, qkv: Tensor) -> tuple[Tensor, Tensor]:
    """[query, key, value] for each head."""
    split = qkv.unflatten(-1, (-1, 3 * head_dim(attention))).transpose(-3, -2)
    _, key, value = split.chunk(3, dim=-1)
    return key, value


_LLAMA = separate()
_KEY_NORM = separate(key_heads=normed_heads("k_norm"), others="q_norm k_norm")
_BERT = separate("query key value")
_CLIP = separate("q_proj k_proj v_proj out_proj")

FAMILIES: dict[str, Family] = {
    "LlamaAttention": _LLAMA,
    "MistralAttention": _LLAMA,
    "Qwen2Attention": _LLAMA,
    "Qwen3Attention": _KEY_NORM,
    "GemmaAttention": _LLAMA,
    "Gemma2Attention": _LLAMA,
    "Gemma3Attention": _KEY_NORM,
    "MixtralAttention": _LLAMA,
    "Qwen2MoeAttention": _LLAMA,
    "Qwen3MoeAttention": _KEY_NORM,
    "Phi3Attention": fused("qkv_proj o_proj", _phi3),
    "PhiAttention": separate(
        "q_proj k_proj v_proj dense", normed_heads("k_layernorm"), others="q_layernorm k_layernorm"
    ),
    "OPTAttention": _CLIP,
    "SmolLM3Attention": _LLAMA,
    "OlmoAttention": separate(key_heads=clipped_heads, value_heads=clipped_heads),
    "Olmo2Attention": separate(key_heads=normed_before_split, others="q_norm k_norm"),
    "Olmo3Attention": separate(key_heads=normed_before_split, others="q_norm k_norm"),
    "OlmoeAttention": separate(
        key_heads=olmoe_heads, value_heads=clipped_heads, others="q_norm k_norm"
    ),
    "GlmAttention": _LLAMA,
    "Glm4Attention": _LLAMA,
    "GptOssAttention": separate(others="sinks"),
    "GraniteAttention": _LLAMA,
    "CohereAttention": separate(key_heads=cohere_heads, others="q_norm k_norm"),
    "Cohere2Attention": _LLAMA,
    "StableLmAttention": separate(key_heads=stablelm_heads, others="q_layernorm k_layernorm"),
    "Starcoder2Attention": _LLAMA,
    "MinistralAttention": _LLAMA,
    "Ministral3Attention": _LLAMA,
    "NemotronAttention": _LLAMA,
    "GPT2Attention": fused("c_attn c_proj", _gpt2),
    "GPTNeoXAttention": fused("query_key_value dense", _gpt_neox),
    # Normed after the rotary embedding, which does not change the norm's statistics.
    "Llama4TextAttention": separate(key_heads=normed_heads("qk_norm")),
    "BertSelfAttention": _BERT,
    "RobertaSelfAttention": _BERT,
    "XLMRobertaSelfAttention": _BERT,
    "CamembertSelfAttention": _BERT,
    "ElectraSelfAttention": _BERT,
    "DistilBertSelfAttention": separate("q_lin k_lin v_lin out_lin"),
    "ModernBertAttention": fused("Wqkv Wo", _gpt2),
    "ViTAttention": _LLAMA,
    "DeiTAttention": _LLAMA,
    "BeitAttention": _LLAMA,
    "Dinov2Attention": _LLAMA,
    "DINOv3ViTAttention": _LLAMA,
    "SwinAttention": separate(others="relative_position_bias"),
    "CLIPAttention": _CLIP,
    "SiglipAttention": _CLIP,
    "Siglip2Attention": _CLIP,
}
