"""Tiny models with random weights, saved in the hub's format: a folder per model."""

import json
from pathlib import Path
from typing import Any

import timm
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
from transformers import (
    AutoModelForCausalLM,
    AutoModelForMaskedLM,
    BertConfig,
    CamembertConfig,
    CLIPVisionConfig,
    CLIPVisionModel,
    Dinov2Config,
    Dinov2Model,
    DistilBertConfig,
    ElectraConfig,
    Gemma3TextConfig,
    LlamaConfig,
    MistralConfig,
    ModernBertConfig,
    PretrainedConfig,
    PreTrainedTokenizerFast,
    Qwen2Config,
    Qwen3Config,
    RobertaConfig,
    ViTConfig,
    ViTModel,
    XLMRobertaConfig,
)

CHAT = (
    "{% for m in messages %}[{{ m['role'] }}]{{ m['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}[assistant]{% endif %}"
)
SPECIAL = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>", "unk_token": "<unk>"}
READER = SPECIAL | {"cls_token": "<s>", "sep_token": "</s>", "mask_token": "<mask>"}
SIZES = {
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_attention_heads": 2,
    "vocab_size": 272,
}
CAUSAL: dict[str, type[PretrainedConfig]] = {
    "llama": LlamaConfig,
    "mistral": MistralConfig,
    "qwen2": Qwen2Config,
    "qwen3": Qwen3Config,
    "gemma3": Gemma3TextConfig,
}
# Encoders, and what differs from BERT: RoBERTa's kind has one token type, ELECTRA narrow
# embeddings, ModernBERT local attention to two tokens on each side in all but every third layer.
READERS: dict[str, tuple[type[PretrainedConfig], dict[str, Any]]] = {
    "bert": (BertConfig, {}),
    "roberta": (RobertaConfig, {}),
    "xlm-roberta": (XLMRobertaConfig, {"type_vocab_size": 1}),
    "camembert": (CamembertConfig, {"type_vocab_size": 1}),
    "electra": (ElectraConfig, {"embedding_size": 8}),
    "distilbert": (DistilBertConfig, {"hidden_dim": 24}),
    "modernbert": (ModernBertConfig, {"local_attention": 4, "bos_token_id": 0, "eos_token_id": 1}),
}
PREPROCESSOR = {"size": 32, "image_mean": [0.5] * 3, "image_std": [0.5] * 3}


def byte_tokenizer(names: dict[str, str], **options: Any) -> PreTrainedTokenizerFast:
    """A token for each byte, after the special tokens."""
    special = list(dict.fromkeys(names.values()))
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {text: i for i, text in enumerate([*special, *alphabet])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    if "cls_token" in names:
        ends = [("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])]
        tokenizer.post_processor = processors.TemplateProcessing(
            single="<s> $A </s>", pair="<s> $A </s> $B:1 </s>:1", special_tokens=ends
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names, **options)


# LLaMA-3's rotary embedding, shortened.
ROPE: dict[str, Any] = {"rope_type": "llama3", "rope_theta": 5e5, "factor": 8.0}
ROPE |= {"low_freq_factor": 1.0, "high_freq_factor": 4.0, "original_max_position_embeddings": 64}
# What the configurations of further models change.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "llama3": ("llama", {"rope_parameters": ROPE, "rms_norm_eps": 1e-5}),
    "smollm2": ("llama", {"tie_word_embeddings": True}),
}


def write_causal(
    folder: Path,
    kind: str = "llama",
    layers: int = 3,
    special: dict[str, str] = SPECIAL,
    **changes: Any,
) -> Path:
    """A causal language model with a chat template."""
    torch.manual_seed(layers)
    kind, variant = VARIANTS.get(kind, (kind, {}))
    changes = variant | changes
    sizes = SIZES | {"num_hidden_layers": layers, "num_key_value_heads": 1, "head_dim": 8}
    config = CAUSAL[kind](**sizes | changes)
    AutoModelForCausalLM.from_config(config).save_pretrained(folder)
    byte_tokenizer(special, chat_template=CHAT).save_pretrained(folder)
    return folder


def write_reader(
    folder: Path, kind: str = "roberta", layers: int = 2, positions: int = 96, **changes: Any
) -> Path:
    """An encoder with a masked-language head, as it is pretrained."""
    torch.manual_seed(layers)
    config_kind, variant = READERS[kind]
    sizes = SIZES | {"num_hidden_layers": layers, "max_position_embeddings": positions}
    config = config_kind(**sizes | {"pad_token_id": 2} | variant | changes)
    AutoModelForMaskedLM.from_config(config).save_pretrained(folder)
    byte_tokenizer(READER).save_pretrained(folder)
    return folder


def write_vit(folder: Path, kind: str = "vit", layers: int = 3) -> Path:
    """A ViT: transformers' vit, dinov2 or clip, or timm."""
    torch.manual_seed(layers)
    sizes = {"image_size": 32, "patch_size": 8, "hidden_size": 16, "num_attention_heads": 2}
    common = sizes | {"num_hidden_layers": layers}
    if kind == "timm":
        arguments = {"img_size": 32, "patch_size": 8, "embed_dim": 16, "depth": layers}
        arguments |= {"num_heads": 2, "reg_tokens": 2}
        model = timm.create_model("vit_tiny_patch16_224", num_classes=5, **arguments)
        folder.mkdir(parents=True)
        save_file(model.state_dict(), folder / "model.safetensors")
        cfg = {"input_size": [3, 32, 32], "mean": [0.485, 0.456, 0.406]}
        config = {
            "architecture": "vit_tiny_patch16_224",
            "model_args": arguments,
            "pretrained_cfg": cfg | {"std": [0.229, 0.224, 0.225]},
        }
        (folder / "config.json").write_text(json.dumps(config))
        return folder
    if kind == "vit":
        model = ViTModel(ViTConfig(**common, intermediate_size=24))
    elif kind == "dinov2":
        model = Dinov2Model(Dinov2Config(**common, mlp_ratio=2))
    else:
        model = CLIPVisionModel(CLIPVisionConfig(**common, intermediate_size=24))
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn_like(parameter))
    model.save_pretrained(folder)
    (folder / "preprocessor_config.json").write_text(json.dumps(PREPROCESSOR))
    return folder
