"""Tiny random backbones of every supported family, and a naive float64 reference for each.

The reference shares only parameter values with `zia_core`: it is the equation, head by head with
explicit softmaxes, in place of the library's attention.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import timm
import torch
from torch import Tensor, nn
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPVisionConfig,
    CLIPVisionModel,
    Gemma2Config,
    Gemma2ForCausalLM,
    Gemma3ForCausalLM,
    Gemma3TextConfig,
    GemmaConfig,
    GemmaForCausalLM,
    LlamaConfig,
    LlamaForCausalLM,
    MistralConfig,
    MistralForCausalLM,
    Qwen2Config,
    Qwen2ForCausalLM,
    Qwen3Config,
    Qwen3ForCausalLM,
    RobertaConfig,
    RobertaForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)

from zia_core import ZeroInitConfig, attach, zero_init_layers

VOCABULARY = 61
LANGUAGE = {
    "vocab_size": VOCABULARY,
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "max_position_embeddings": 64,
    "pad_token_id": 0,
    "bos_token_id": 1,
    "eos_token_id": 2,
}
ENCODER = {**LANGUAGE, "hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}
VISION = {
    "hidden_size": 48,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 16,
    "patch_size": 4,
}


def _timm(**kwargs: Any) -> nn.Module:
    return timm.create_model(
        "vit_tiny_patch16_224",
        img_size=16,
        patch_size=4,
        embed_dim=48,
        depth=3,
        num_heads=4,
        num_classes=7,
        **kwargs,
    )


BUILD: dict[str, Callable[[], nn.Module]] = {
    "llama-mha": lambda: LlamaForCausalLM(LlamaConfig(**LANGUAGE)),
    "llama-gqa": lambda: LlamaForCausalLM(LlamaConfig(**LANGUAGE, num_key_value_heads=2)),
    "llama-mqa": lambda: LlamaForCausalLM(LlamaConfig(**LANGUAGE, num_key_value_heads=1)),
    "llama-head-dim": lambda: LlamaForCausalLM(
        LlamaConfig(**LANGUAGE, num_key_value_heads=2, head_dim=20, attention_bias=True)
    ),
    "mistral": lambda: MistralForCausalLM(
        MistralConfig(**LANGUAGE, num_key_value_heads=2, sliding_window=4)
    ),
    "qwen2": lambda: Qwen2ForCausalLM(Qwen2Config(**LANGUAGE, num_key_value_heads=2)),
    "qwen3": lambda: Qwen3ForCausalLM(Qwen3Config(**LANGUAGE, num_key_value_heads=2, head_dim=16)),
    "gemma": lambda: GemmaForCausalLM(GemmaConfig(**LANGUAGE, num_key_value_heads=1, head_dim=16)),
    "gemma2": lambda: Gemma2ForCausalLM(
        Gemma2Config(
            **LANGUAGE,
            num_key_value_heads=2,
            head_dim=16,
            query_pre_attn_scalar=24,
            attn_logit_softcapping=2.0,
            sliding_window=4,
            attn_implementation="eager",
        )
    ),
    "gemma3": lambda: Gemma3ForCausalLM(
        Gemma3TextConfig(
            **LANGUAGE,
            num_key_value_heads=2,
            head_dim=16,
            sliding_window=4,
            layer_types=["sliding_attention", "full_attention", "sliding_attention"],
        )
    ),
    "bert": lambda: BertForQuestionAnswering(BertConfig(**ENCODER)),
    "roberta": lambda: RobertaForQuestionAnswering(RobertaConfig(**ENCODER)),
    "vit": lambda: ViTForImageClassification(
        ViTConfig(**VISION, num_labels=7, hidden_dropout_prob=0.0, attention_probs_dropout_prob=0.0)
    ),
    "clip-vision": lambda: CLIPVisionModel(CLIPVisionConfig(**VISION)),
    "clip-text": lambda: CLIPTextModel(CLIPTextConfig(**LANGUAGE)),
    "timm": _timm,
    "timm-qk-norm": lambda: _timm(qk_norm=True, qkv_bias=False),
    "timm-unfused": lambda: _unfused(_timm(scale_attn_norm=True)),
}
DECODERS = [n for n in BUILD if n.split("-")[0] in ("llama", "mistral", "qwen2", "qwen3", "gemma")]
DECODERS += ["gemma2", "gemma3"]


def _unfused(model: nn.Module) -> nn.Module:
    for module in model.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    return model


def build(family: str, seed: int = 0) -> nn.Module:
    """A tiny backbone with weights large enough that every part matters."""
    torch.manual_seed(seed)
    model = BUILD[family]().eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                nn.init.normal_(parameter, std=0.15)
            elif "bias" in name or "norm" in name:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return model


def open_gates(model: nn.Module, seed: int = 1) -> nn.Module:
    """Random gates far from zero: at zero every error of the prompt term is invisible."""
    generator = torch.Generator().manual_seed(seed)
    for layer in zero_init_layers(model):
        if "gate" in layer._parameters:
            noise = torch.randn(layer.gate.shape, generator=generator, dtype=torch.float64)
            layer.gate.data.copy_(noise + noise.sign() * 0.3)
    return model


def adapted(family: str, config: ZeroInitConfig | None = None, **kwargs: Any) -> nn.Module:
    """A tiny adapted backbone with open gates, by default K=5 and L=2."""
    config = config or ZeroInitConfig(**{"prompt_length": 5, "num_layers": 2, **kwargs})
    return open_gates(attach(build(family), config))


def is_vision(family: str) -> bool:
    return family.startswith(("vit", "clip-vision", "timm"))


def inputs(family: str, batch: int = 2, length: int = 9, padded: bool = False) -> dict[str, Tensor]:
    """Token ids (right-padded if asked) or images; pass them through `output`."""
    generator = torch.Generator().manual_seed(7)
    if is_vision(family):
        return {"pixel_values": torch.randn(batch, 3, 16, 16, generator=generator)}
    ids = torch.randint(3, VOCABULARY, (batch, length), generator=generator)
    mask = torch.ones_like(ids)
    if padded:
        mask[0, -3:] = 0
        ids[0, -3:] = 0
    return {"input_ids": ids, "attention_mask": mask} if padded else {"input_ids": ids}


def output(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    """The model's main output as one tensor, padded positions zeroed."""
    if "pixel_values" in batch:
        pixels = batch["pixel_values"].to(next(model.parameters()).dtype)
        result = model(pixels) if "timm" in type(model).__module__ else model(pixel_values=pixels)
    else:
        result = model(**batch)
    if isinstance(result, Tensor):
        return result
    for name in ("logits", "start_logits", "last_hidden_state"):
        if getattr(result, name, None) is not None:
            value: Tensor = getattr(result, name)
            break
    if "attention_mask" in batch:
        keep = batch["attention_mask"].bool()
        value = value * (keep[..., None] if value.ndim == 3 else keep)
    return value


@dataclass
class Reference:
    """Config and parameters of one layer, for the naive attention."""

    config: ZeroInitConfig
    prompt: Tensor
    gate: Tensor | None


def _prompts(ref: Reference, wk: Any, bk: Any, wv: Any, bv: Any, heads: int, key_norm: Any) -> Any:
    """Keys and values of the prompts, [heads, K, D] each, from plain matrices."""
    if ref.config.prompt_source == "key_value":
        flat_key, flat_value = ref.prompt[0], ref.prompt[1]
    else:
        flat_key = ref.prompt @ wk.T + (0 if bk is None else bk)
        flat_value = ref.prompt @ wv.T + (0 if bv is None else bv)
    keys = list(flat_key.chunk(heads, dim=-1))
    if key_norm is not None and ref.config.prompt_source == "hidden":
        keys = [key_norm(key) for key in keys]
    return keys, list(flat_value.chunk(heads, dim=-1))


def _attend(
    ref: Reference | None, q: Tensor, k: Tensor, v: Tensor, kp: Any, vp: Any, bias: Any,
    scale: float, softcap: float | None, head: int,
) -> Tensor:  # fmt: skip
    """One head of one sample: q [T, D], k and v [S, D], bias [T, S]."""

    def cap(s: Tensor) -> Tensor:
        return s if softcap is None else softcap * torch.tanh(s / softcap)

    words = cap(q @ k.T * scale) + bias
    if ref is None:
        return words.softmax(-1) @ v
    prompts = cap(q @ kp.T * scale)
    if ref.config.softmax == "joint":
        return torch.cat([prompts, words], -1).softmax(-1) @ torch.cat([vp, v])
    gate = ref.gate[head if len(ref.gate) > 1 else 0]
    gate = gate.tanh() if ref.config.gate_activation == "tanh" else gate
    return words.softmax(-1) @ v + gate * (prompts.softmax(-1) @ vp)


@contextmanager
def naive(model: nn.Module, parameters: dict[str, Reference]) -> Iterator[nn.Module]:
    """Give a BARE model the naive attention, with `parameters` by attention name."""
    references = {id(model.get_submodule(name)): ref for name, ref in parameters.items()}

    def eager(module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, **kw: Any) -> Any:
        ref = references.get(id(module))
        k_proj = getattr(module, "k_proj", None) or module.key
        v_proj = getattr(module, "v_proj", None) or module.value
        heads, kv_heads, softcap = query.shape[1], key.shape[1], kw.get("softcap")
        kp = vp = [None] * kv_heads
        if ref is not None:
            norm = getattr(module, "k_norm", None)
            kp, vp = _prompts(
                ref, k_proj.weight, k_proj.bias, v_proj.weight, v_proj.bias, kv_heads, norm
            )
        out = torch.zeros(query.shape[0], query.shape[2], heads, query.shape[3], dtype=query.dtype)
        for b in range(query.shape[0]):
            for h in range(heads):
                g = h // (heads // kv_heads)
                bias = 0.0 if mask is None else mask[min(b, mask.shape[0] - 1), 0]
                out[b, :, h] = _attend(
                    ref, query[b, h], key[b, g], value[b, g], kp[g], vp[g], bias, kw["scaling"],
                    softcap, h,
                )  # fmt: skip
        return out, None

    def timm_forward(module: Any, x: Tensor, **kwargs: Any) -> Tensor:
        ref, heads, dim = references.get(id(module)), module.num_heads, module.head_dim
        width = heads * dim
        q, k, v = (x @ module.qkv.weight.T + (0 if module.qkv.bias is None else module.qkv.bias)).split(width, -1)  # fmt: skip  # noqa: E501
        kp = vp = [None] * heads
        if ref is not None:
            _, wk, wv = module.qkv.weight.split(width)
            _, bk, bv = (None,) * 3 if module.qkv.bias is None else module.qkv.bias.split(width)
            kp, vp = _prompts(ref, wk, bk, wv, bv, heads, module.k_norm)
        rows = []
        for b in range(x.shape[0]):
            parts = [slice(h * dim, (h + 1) * dim) for h in range(heads)]
            rows.append(torch.cat([
                _attend(ref, module.q_norm(q[b, :, p]), module.k_norm(k[b, :, p]), v[b, :, p],
                        kp[h], vp[h], 0.0, module.scale, None, h)
                for h, p in enumerate(parts)], -1))  # fmt: skip
        return module.proj(module.norm(torch.stack(rows)))

    if "timm" in type(model).__module__:
        with mock.patch("timm.layers.attention.Attention.forward", timm_forward):
            yield model
    else:
        model.set_attn_implementation("eager")
        with mock.patch(f"{type(model).__module__}.eager_attention_forward", eager):
            yield model


def references(model: nn.Module) -> dict[str, Reference]:
    """Copies of an adapted model's parameters as leaves, by attention name."""
    found = {}
    for name, module in model.named_modules():
        if name.endswith("zero_init"):
            gate = module._parameters.get("gate")
            found[name.removesuffix(".zero_init")] = Reference(
                module.config,
                module.prompt.detach().double().clone().requires_grad_(),
                None if gate is None else gate.detach().double().clone().requires_grad_(),
            )
    return found
