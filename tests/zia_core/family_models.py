"""Tiny random models of every family, with the options that change keys and values."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import timm
import torch
import transformers
from torch import Tensor, nn

from tests.zia_core.backbones import ENCODER, LANGUAGE, VISION, VOCABULARY

GROUPED = {"num_key_value_heads": 2}
EXPERTS = {
    "num_local_experts": 4,
    "num_experts": 4,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
    "experts_implementation": "eager",
}
HALF_ROTARY = {"rope_parameters": {"rope_type": "default", "partial_rotary_factor": 0.5}}
FLOAT32: Any = {"tolerance": 1e-6}  # the rotary embedding, or attention, is in float32
SLIDING = ["sliding_attention", "full_attention", "sliding_attention"]
NO_DROPOUT = {"hidden_dropout_prob": 0.0, "attention_probs_dropout_prob": 0.0}


@dataclass(frozen=True)
class Model:
    """One row of the families' table.

    Attributes:
        label: what the table calls it.
        build: makes it, with random weights.
        kind: "decoder", "encoder" or "image".
        tolerance: 1e-6 if the model computes a part of its attention in float32 at best.
    """

    label: str
    build: Callable[[], nn.Module]
    kind: str = "decoder"
    tolerance: float = 1e-10


def decoder(label: str, config: str, model: str, tolerance: float = 1e-10, **options: Any) -> Model:
    def build() -> nn.Module:
        sizes = getattr(transformers, config)(**{**LANGUAGE, **options})
        made: nn.Module = getattr(transformers, model)(sizes)
        return made

    return Model(label, build, "decoder", tolerance)


def encoder(label: str, config: str, model: str, tolerance: float = 1e-10, **options: Any) -> Model:
    def build() -> nn.Module:
        made: nn.Module = getattr(transformers, model)(getattr(transformers, config)(**options))
        return made

    return Model(label, build, "encoder", tolerance)


def image(label: str, config: str, model: str, **options: Any) -> Model:
    return Model(label, encoder(label, config, model, **{**VISION, **options}).build, "image")


def from_timm(label: str, name: str, **options: Any) -> Model:
    small = {"img_size": 16, "patch_size": 4, "embed_dim": 48, "depth": 3, "num_heads": 4}
    return Model(label, lambda: timm.create_model(name, **small, **options), "image")


def swin() -> nn.Module:
    """Two stages of different widths; every second layer shifts its windows."""
    config = transformers.SwinConfig(
        image_size=16, patch_size=2, embed_dim=16, depths=[2, 2], num_heads=[2, 4], window_size=2,
        drop_path_rate=0.0, **NO_DROPOUT,
    )  # fmt: skip
    return transformers.SwinForImageClassification(config)


def timm_swin() -> nn.Module:
    """The same in timm; only the fused function is where the reference can take its place."""
    made = timm.create_model(
        "swin_tiny_patch4_window7_224", img_size=16, patch_size=2, embed_dim=16, depths=(2, 2),
        num_heads=(2, 4), window_size=2, drop_path_rate=0.0, num_classes=7,
    )  # fmt: skip
    for module in made.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = True
    return made


def causal(name: str) -> tuple[str, str]:
    return f"{name}Config", f"{name}ForCausalLM"


MODELS = [
    decoder("LLaMA", *causal("Llama")),
    decoder(
        "LLaMA, grouped queries", *causal("Llama"), **GROUPED, attention_bias=True, head_dim=20,
    ),
    decoder("Mistral", *causal("Mistral"), **GROUPED, sliding_window=4),
    decoder("Qwen2", *causal("Qwen2"), **GROUPED),
    decoder("Qwen3", *causal("Qwen3"), **GROUPED, head_dim=16),
    decoder("Gemma", *causal("Gemma"), num_key_value_heads=1, head_dim=16),
    decoder(
        "Gemma 2", *causal("Gemma2"), **FLOAT32, **GROUPED, head_dim=16,
        attn_logit_softcapping=2.0, sliding_window=4, attn_implementation="eager",
    ),
    decoder(
        "Gemma 3", "Gemma3TextConfig", "Gemma3ForCausalLM", **GROUPED, head_dim=16,
        sliding_window=4, layer_types=SLIDING,
    ),
    decoder("Mixtral", *causal("Mixtral"), **GROUPED, **EXPERTS),
    decoder("Qwen2-MoE", *causal("Qwen2Moe"), **GROUPED, **EXPERTS),
    decoder("Qwen3-MoE", *causal("Qwen3Moe"), **GROUPED, **EXPERTS, head_dim=16),
    decoder("Phi", *causal("Phi")),
    decoder("Phi, `qk_layernorm`", *causal("Phi"), qk_layernorm=True),
    decoder("Phi-3", *causal("Phi3"), **GROUPED),
    decoder("OPT", *causal("OPT"), ffn_dim=64, word_embed_proj_dim=48),
    decoder("SmolLM3", *causal("SmolLM3"), **GROUPED, no_rope_layers=[1, 0, 1]),
    decoder("OLMo", *causal("Olmo"), **GROUPED),
    decoder("OLMo, `clip_qkv`", *causal("Olmo"), **GROUPED, clip_qkv=0.5),
    decoder("OLMo 2", *causal("Olmo2"), **GROUPED),
    decoder("OLMo 3", *causal("Olmo3"), **GROUPED, sliding_window=4, layer_types=SLIDING),
    decoder("OLMoE", *causal("Olmoe"), **GROUPED, **EXPERTS),
    decoder("OLMoE, `clip_qkv`", *causal("Olmoe"), **GROUPED, **EXPERTS, clip_qkv=0.5),
    decoder("GLM", *causal("Glm"), **GROUPED, head_dim=16),
    decoder("GLM4", *causal("Glm4"), **GROUPED, head_dim=16),
    decoder(
        "GPT-OSS", *causal("GptOss"), **GROUPED, **EXPERTS, head_dim=16, sliding_window=4,
        layer_types=SLIDING, rope_parameters={"rope_type": "default", "rope_theta": 1e4},
    ),
    decoder("Granite", *causal("Granite"), **GROUPED, attention_multiplier=0.3),
    decoder("Cohere", *causal("Cohere"), **FLOAT32, **GROUPED),
    decoder(
        "Cohere, `use_qk_norm`", *causal("Cohere"), **FLOAT32, **GROUPED, use_qk_norm=True,
    ),
    decoder(
        "Cohere 2", *causal("Cohere2"), **FLOAT32, **GROUPED, sliding_window=4,
        layer_types=SLIDING,
    ),
    decoder("StableLM", *causal("StableLm"), **GROUPED, **HALF_ROTARY, use_qkv_bias=True),
    decoder(
        "StableLM, `qk_layernorm`", *causal("StableLm"), **GROUPED, **HALF_ROTARY,
        qk_layernorm=True,
    ),
    decoder("Starcoder2", *causal("Starcoder2"), **GROUPED),
    decoder(
        "Ministral", *causal("Ministral"), **GROUPED, head_dim=16, sliding_window=4,
        layer_types=SLIDING,
    ),
    decoder("Ministral 3", *causal("Ministral3"), **GROUPED, head_dim=16),
    decoder("Nemotron", *causal("Nemotron"), **GROUPED, head_dim=16),
    decoder(
        "GPT-2", "GPT2Config", "GPT2LMHeadModel", n_inner=64,
        attn_pdrop=0.0, embd_pdrop=0.0, resid_pdrop=0.0,
    ),
    decoder("GPT-NeoX", *causal("GPTNeoX")),
    decoder(
        "Llama 4, text", "Llama4TextConfig", "Llama4ForCausalLM", **FLOAT32, **GROUPED, **EXPERTS,
        head_dim=16, intermediate_size_mlp=64, no_rope_layers=[1, 0, 1], attention_chunk_size=8,
        floor_scale=2, attn_scale=0.5,
    ),
    encoder("BERT", "BertConfig", "BertForQuestionAnswering", **ENCODER),
    encoder("RoBERTa", "RobertaConfig", "RobertaForQuestionAnswering", **ENCODER),
    encoder("XLM-R", "XLMRobertaConfig", "XLMRobertaForQuestionAnswering", **ENCODER),
    encoder("CamemBERT", "CamembertConfig", "CamembertForQuestionAnswering", **ENCODER),
    encoder("ELECTRA", "ElectraConfig", "ElectraForQuestionAnswering", **ENCODER),
    encoder(
        "DistilBERT", "DistilBertConfig", "DistilBertForQuestionAnswering", vocab_size=VOCABULARY,
        dim=48, hidden_dim=64, n_layers=3, n_heads=4, dropout=0.0, attention_dropout=0.0,
    ),
    encoder(
        "ModernBERT", "ModernBertConfig", "ModernBertModel", **FLOAT32, **LANGUAGE,
        local_attention=4, layer_types=SLIDING, cls_token_id=1, sep_token_id=2,
    ),
    encoder("CLIP, text", "CLIPTextConfig", "CLIPTextModel", **LANGUAGE),
    encoder("SigLIP, text", "SiglipTextConfig", "SiglipTextModel", **LANGUAGE),
    image("ViT", "ViTConfig", "ViTForImageClassification", **NO_DROPOUT),
    image("DeiT", "DeiTConfig", "DeiTForImageClassification", **NO_DROPOUT),
    image(
        "BEiT", "BeitConfig", "BeitForImageClassification", **NO_DROPOUT,
        use_relative_position_bias=True, layer_scale_init_value=0.7,
    ),
    image("DINOv2", "Dinov2Config", "Dinov2ForImageClassification", mlp_ratio=2),
    image("DINOv3", "DINOv3ViTConfig", "DINOv3ViTModel"),
    image("CLIP, images", "CLIPVisionConfig", "CLIPVisionModel"),
    image("SigLIP, images", "SiglipVisionConfig", "SiglipVisionModel"),
    image("SigLIP 2, images", "Siglip2VisionConfig", "Siglip2VisionModel", num_patches=16),
    Model("Swin", swin, "image"),
    from_timm("timm's ViT", "vit_tiny_patch16_224", num_classes=7),
    from_timm("timm's ViT, `qk_norm`", "vit_tiny_patch16_224", num_classes=7, qk_norm=True),
    from_timm("timm's DeiT", "deit_tiny_distilled_patch16_224", num_classes=7),
    from_timm("timm's DINOv2", "vit_small_patch14_dinov2", num_classes=7),
    from_timm("timm's SigLIP", "vit_base_patch16_siglip_224", num_classes=7),
    from_timm("timm's BEiT", "beit_base_patch16_224", num_classes=7),
    from_timm(
        "timm's BEiT, shared position bias", "beit_base_patch16_224", num_classes=7,
        use_rel_pos_bias=False, use_shared_rel_pos_bias=True,
    ),
    Model("timm's Swin", timm_swin, "image"),
]  # fmt: skip
BY_LABEL = {model.label: model for model in MODELS}


def build(model: Model) -> nn.Module:
    """The model in float64, with weights so large that every part matters."""
    torch.manual_seed(0)
    made = model.build().eval().double().requires_grad_(False)
    with torch.no_grad():
        for name, parameter in made.named_parameters():
            if parameter.ndim > 1 and "norm" not in name:
                nn.init.normal_(parameter, std=0.15)
            else:
                parameter.add_(torch.randn_like(parameter) * 0.1)
    return made


def run(made: nn.Module, model: Model, batch: int = 3) -> Tensor:
    """Its output for a batch without padding."""
    generator = torch.Generator().manual_seed(7)
    if model.kind != "image":
        ids = torch.randint(3, VOCABULARY, (batch, 9), generator=generator)
        result = made(input_ids=ids, **({"use_cache": False} if model.kind == "decoder" else {}))
    else:
        pixels = torch.randn(batch, 3, 16, 16, generator=generator).double()
        if "siglip2" in type(made).__module__:
            patches = pixels.unfold(2, 4, 4).unfold(3, 4, 4).permute(0, 2, 3, 4, 5, 1).flatten(3)
            result = made(
                pixel_values=patches.flatten(1, 2),
                pixel_attention_mask=torch.ones(batch, 16, dtype=torch.long),
                spatial_shapes=torch.tensor([[4, 4]] * batch),
            )
        else:
            result = made(pixels)
    if isinstance(result, Tensor):
        return result
    names = ("logits", "start_logits", "last_hidden_state")
    found: Tensor = next(getattr(result, name) for name in names if hasattr(result, name))
    return found
