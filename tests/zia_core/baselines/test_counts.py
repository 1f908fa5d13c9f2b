"""Trainable parameters at real shapes, on the meta device: derived, and as published.

Sources of published numbers: VPT (arXiv 2203.12119) section 3.2 and Table 1, LoRA (arXiv
2106.09685) Table 2, BitFit (arXiv 2106.10199) Table 1, NOAH (arXiv 2206.04673) Table 1.
"""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import nn
from transformers import (
    BertConfig,
    BertForQuestionAnswering,
    RobertaConfig,
    RobertaForQuestionAnswering,
    ViTConfig,
    ViTForImageClassification,
)

from zia_core import ZeroInitConfig, attach, baselines

C, LAYERS, M, R = 768, 12, 8, 8
VIT_B = 85_798_656  # without a head
BASE = {
    "hidden_size": 768,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "intermediate_size": 3072,
}
LARGE = {
    "hidden_size": 1024,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "intermediate_size": 4096,
}
ROBERTA = {"vocab_size": 50265, "max_position_embeddings": 514, "type_vocab_size": 1}


def vit_b(library: str = "timm") -> nn.Module:
    with torch.device("meta"):
        if library == "timm":
            return timm.create_model("vit_base_patch16_224", num_classes=10)
        return ViTForImageClassification(ViTConfig(**BASE, num_labels=10))


def roberta(shape: dict[str, int] = LARGE) -> nn.Module:
    with torch.device("meta"):
        return RobertaForQuestionAnswering(RobertaConfig(**shape, **ROBERTA))


def bert(shape: dict[str, int]) -> nn.Module:
    with torch.device("meta"):
        return BertForQuestionAnswering(BertConfig(**shape, vocab_size=30522))


def without_head(model: Any) -> int:
    """Trained parameters without the head's, which depend only on the task."""
    head = sum(p.numel() for p in baselines.head_parameters(model).values())
    return baselines.tuned_parameters(model) - head


def millions(parameters: int, digits: int) -> float:
    return round(parameters / 1e6, digits)


def test_the_backbones() -> None:
    assert baselines.tuned_parameters(vit_b()) - (C * 10 + 10) == VIT_B
    assert baselines.tuned_parameters(baselines.linear_probe(vit_b())) == C * 10 + 10
    assert baselines.tuned_parameters(baselines.linear_probe(roberta())) == 1024 * 2 + 2


def test_vpt() -> None:
    """50 prompts: 0.038M shallow, 0.46M deep, 0.04 % and 0.53 % of a ViT-B (VPT, section 3.2)."""
    shallow = without_head(baselines.vpt(vit_b(), 50, deep=False))
    deep = without_head(baselines.vpt(vit_b(), 50, deep=True))
    assert (shallow, deep) == (50 * C, LAYERS * 50 * C) == (38_400, 460_800)
    assert (millions(shallow, 3), millions(deep, 2)) == (0.038, 0.46)
    assert (shallow * 10_000 // 86e6, deep * 10_000 // 86e6) == (4, 53)  # truncated, not rounded
    assert without_head(baselines.vpt(vit_b("transformers"), 50, deep=True)) == deep


def test_bitfit_of_vit_b() -> None:
    """Per block 11C: qkv 3C, projection C, MLP 4C + C, two norms; then patches and last norm."""
    count = without_head(baselines.bitfit(vit_b()))
    assert count == LAYERS * 11 * C + 2 * C == 102_912
    # VPT's Table 1 counts one backbone, 24 tasks and their heads (linear: 1.02): BIAS 1.05.
    assert round(1.02 + 24 * count / VIT_B, 2) == 1.05


def test_bitfit_of_bert_and_roberta() -> None:
    """BERT-base 0.09 %, BERT-large 0.08 % (BitFit); RoBERTa-base 0.1M (LoRA's Table 2)."""
    base, large = (without_head(baselines.bitfit(bert(shape))) for shape in (BASE, LARGE))
    assert base == 12 * 11 * 768 + 768 == 102_144
    assert large == 24 * 11 * 1024 + 1024 == 271_360
    assert round(100 * base / 109e6, 2) == 0.09
    assert round(100 * large / 335e6, 2) == 0.08
    assert millions(without_head(baselines.bitfit(roberta(BASE))), 1) == 0.1


def test_lora() -> None:
    """Rank 8 on q and v: 0.29M in a ViT-B (NOAH), 0.3M and 0.8M in RoBERTa (LoRA, Table 2)."""
    expected = LAYERS * 2 * (R * C + C * R)
    for model in (vit_b("timm"), vit_b("transformers"), roberta(BASE), bert(BASE)):
        assert without_head(baselines.lora_encoder(model)) == expected == 294_912
    large = without_head(baselines.lora_encoder(roberta()))
    assert large == 24 * 2 * 2 * R * 1024 == 786_432
    assert (millions(expected, 2), millions(large, 1)) == (0.29, 0.8)


def test_houlsby() -> None:
    """2mC + m + C an adapter, two a block; Adpt^H in RoBERTa-large with m=8: 0.8M (LoRA)."""
    in_vit = without_head(baselines.houlsby(vit_b(), M, train_norms=False))
    assert in_vit == LAYERS * 2 * (2 * M * C + M + C) == 313_536
    in_roberta = without_head(baselines.houlsby(roberta(), 8, train_norms=False))
    assert in_roberta == 24 * 2 * (2 * 8 * 1024 + 8 + 1024) == 835_968
    assert millions(in_roberta, 1) == 0.8
    assert without_head(baselines.houlsby(vit_b(), M)) - in_vit == 25 * 2 * C
    assert without_head(baselines.houlsby(roberta(), 8)) - in_roberta == 49 * 2 * 1024


def test_side_tuning_with_alexnet() -> None:
    """AlexNet's convolutions, 9216 features and the blend: VPT's Table 1 has SIDETUNE at 3.69."""
    torchvision = pytest.importorskip("torchvision")
    with torch.device("meta"):
        alexnet = torchvision.models.alexnet()
    count = without_head(
        baselines.side_tuning(vit_b(), nn.Sequential(alexnet.features, alexnet.avgpool))
    )
    assert count == 2_469_696 + 9216 * C + 1
    assert round(1.02 + 24 * count / VIT_B, 2) == 3.69
    small = without_head(baselines.side_tuning(vit_b()))
    assert (
        small
        == sum(9 * a * b + b for a, b in [(3, 32), (32, 64), (64, 128), (128, 256)]) + 256 * C + 1
    )


def test_prompts_of_roberta_large() -> None:
    """Lester: K*C. P-tuning v2: keys and values of every layer. Zero-init: a gate a head more."""
    assert without_head(baselines.prompt_tuning(roberta(), 20)) == 20 * 1024
    prefix = without_head(baselines.p_tuning_v2(roberta(), 16))
    assert prefix == 24 * 2 * 16 * 1024 == 786_432
    config = ZeroInitConfig(prompt_length=16, num_layers=24, prompt_source="key_value")
    gated = baselines.train_head(baselines.prefix_dropout(attach(roberta(), config), 0.2))
    assert without_head(gated) == prefix + 24 * 16
