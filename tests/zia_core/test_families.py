"""Every family against its own model; what is refused, and why; families of users."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import nn
from transformers import GPT2Config, GPT2LMHeadModel

from tests.zia_core import families_table
from tests.zia_core.backbones import LANGUAGE, open_gates
from tests.zia_core.family_checks import check
from tests.zia_core.family_models import BY_LABEL, MODELS, build, causal, decoder, run
from zia_core import ZeroInitConfig, ZiaError, attach, detach, families, register_family
from zia_core.families import TIMM, attention_layers
from zia_core.projections import FAMILIES, separate

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)
# Older releases of timm define the attention of ViTs in another module.
OF_TIMM = TIMM.keys() - {"timm.models.vision_transformer.Attention"}

PERSIMMON = decoder("Persimmon", *causal("Persimmon"), tolerance=1e-10)


@pytest.fixture
def no_registered(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a test registers is forgotten after it."""
    monkeypatch.setattr(families, "_registered", {})


@pytest.mark.parametrize("label", BY_LABEL)
def test_family(label: str) -> None:
    model = BY_LABEL[label]
    errors = check(model)
    assert errors.projections < model.tolerance
    assert errors.output < model.tolerance
    assert errors.gradients < model.tolerance
    assert (errors.cached is not None) == (model.kind == "decoder")
    assert (errors.cached or 0.0) < model.tolerance
    assert errors.bitwise


def test_every_known_class_is_tested() -> None:
    assert {check(model).attention for model in MODELS} == {*FAMILIES, *OF_TIMM}


def test_the_readmes_count_the_classes(repository: Path) -> None:
    for name in ("README.md", "zia_core/README.md"):
        text = (repository / name).read_text("utf-8")
        assert f"{len(FAMILIES) + len(OF_TIMM)} attention classes" in text


def test_the_written_table_is_that_of_the_tests() -> None:
    _, written, _ = families_table.split(families_table.PAGE.read_text("utf-8"))
    assert written == families_table.table(), "run make docs"


@pytest.mark.parametrize(
    "label",
    [
        "Qwen3", "Gemma 3", "Qwen3-MoE", "Phi, `qk_layernorm`", "OLMo, `clip_qkv`", "OLMo 2",
        "OLMo 3", "OLMoE", "Cohere, `use_qk_norm`", "StableLM, `qk_layernorm`", "Llama 4, text",
    ],
)  # fmt: skip
def test_keys_without_their_norm_are_seen(label: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model = BY_LABEL[label]
    plain = separate(others="dense q_norm k_norm q_layernorm k_layernorm")
    monkeypatch.setitem(FAMILIES, check(model).attention, plain)
    errors = check.__wrapped__(model)
    assert errors.projections > 0.1
    assert errors.gradients > 0.01


@pytest.mark.parametrize("label", ["Phi-3", "GPT-2", "GPT-NeoX", "ModernBERT"])
def test_keys_and_values_of_the_wrong_part_are_seen(
    label: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = BY_LABEL[label]
    family = FAMILIES[check(model).attention]
    wrong = replace(family, keys_values=lambda *given: family.keys_values(*given)[::-1])
    monkeypatch.setitem(FAMILIES, check(model).attention, wrong)
    assert check.__wrapped__(model).projections > 0.1


BIASED = ["timm's BEiT", "timm's BEiT, shared position bias", "timm's Swin"]


@pytest.mark.parametrize("label", BIASED)
@torch.no_grad()
def test_timm_without_its_fused_kernel(label: str) -> None:
    model = BY_LABEL[label]
    made = open_gates(attach(build(model), CONFIG))
    expected = run(made, model)
    for module in made.modules():
        if hasattr(module, "fused_attn"):
            module.fused_attn = False
    torch.testing.assert_close(run(made, model), expected, rtol=1e-10, atol=1e-10)
    assert not torch.allclose(run(detach(made), model), expected)


@pytest.mark.parametrize("label", BIASED)
def test_one_softmax_over_words_and_prompts_needs_no_position_bias(label: str) -> None:
    model = build(BY_LABEL[label])
    with pytest.raises(ZiaError, match="with a relative position bias; use softmax='separate'"):
        attach(model, replace(CONFIG, softmax="joint"))


def model_of(name: str, **options: Any) -> Any:
    config, kind = causal(name)
    return getattr(transformers, kind)(getattr(transformers, config)(**LANGUAGE, **options))


REFUSED = {
    "Falcon": ("FalconAttention.*its own hook is missing, since it does not ask", {}),
    "Persimmon": ("PersimmonAttention .with dense, k_layernorm.*a projection is missing: zia", {}),
    "DeepseekV3": (
        "DeepseekV3Attention.*a projection is missing, and cannot be exact",
        {"q_lora_rank": 16, "kv_lora_rank": 16, "qk_rope_head_dim": 4, "qk_nope_head_dim": 8,
         "v_head_dim": 12, "n_routed_experts": 4, "num_experts_per_tok": 2, "n_group": 1,
         "topk_group": 1},
    ),
    "Helium": (r"only its name is missing: zia_core.register_family\(HeliumAttention\)", {}),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_refusal_says_what_is_missing(name: str) -> None:
    says, options = REFUSED[name]
    with pytest.raises(ZiaError, match=says):
        attach(model_of(name, **options), CONFIG)


def test_one_layer_run_many_times_is_refused() -> None:
    sizes = {"hidden_size": 48, "intermediate_size": 64, "num_attention_heads": 4}
    model = transformers.AlbertModel(transformers.AlbertConfig(embedding_size=16, **sizes))
    with pytest.raises(ZiaError, match=r"AlbertAttention.*its own hook.*would share its prompts"):
        attach(model, CONFIG)


def test_parts_that_nobody_knows_are_refused() -> None:
    """As a norm that a later transformers adds to the class of a known name."""
    model = build(BY_LABEL["LLaMA"])
    attention: Any = attention_layers(model)[-1].attention
    attention.key_norm = nn.LayerNorm(12)
    says = "LlamaAttention: it is not known what its key_norm does .* A projection is missing"
    with pytest.raises(ZiaError, match=says):
        attach(model, CONFIG)
    assert not [name for name, _ in model.named_parameters() if "zero_init" in name]


def test_gpt2_that_computes_attention_itself_is_refused() -> None:
    config = GPT2Config(**LANGUAGE, reorder_and_upcast_attn=True)
    with pytest.raises(ZiaError, match=r"its own hook is missing; load .* with reorder_and_upcast"):
        attach(GPT2LMHeadModel(config), CONFIG)


def test_attention_to_an_encoder_is_not_a_layer() -> None:
    gpt2 = GPT2LMHeadModel(GPT2Config(**LANGUAGE, add_cross_attention=True))
    assert [each.name for each in attention_layers(gpt2)] == [
        f"transformer.h.{i}.attn" for i in range(3)
    ]
    bert = transformers.BertLMHeadModel(
        transformers.BertConfig(**LANGUAGE, is_decoder=True, add_cross_attention=True)
    )
    assert [each.name for each in attention_layers(bert)] == [
        f"bert.encoder.layer.{i}.attention.self" for i in range(3)
    ]


@pytest.mark.usefixtures("no_registered")
def test_a_class_like_llamas_is_registered_by_name() -> None:
    model = decoder("Helium", *causal("Helium"), num_key_value_heads=2, head_dim=12)
    register_family(type(attention_of(model.build())))
    errors = check.__wrapped__(replace(model, tolerance=1e-6))
    assert errors.within(1e-6), errors


@pytest.mark.usefixtures("no_registered")
def test_the_readmes_own_family_is_exact(repository: Path) -> None:
    text = (repository / "zia_core/README.md").read_text("utf-8")
    (block,) = (b for b in re.findall("```python\n(.*?)```", text, re.S) if "register_family(" in b)
    exec(compile(block, "README.md", "exec"), {})
    errors = check.__wrapped__(PERSIMMON)
    assert errors.within(1e-10), errors
    assert errors.attention == "PersimmonAttention"


def test_only_classes_of_modules_are_registered() -> None:
    wrong: Any = "LlamaAttention"
    with pytest.raises(ZiaError, match="takes a class of modules, not 'LlamaAttention'"):
        register_family(wrong)


def attention_of(model: nn.Module) -> nn.Module:
    return next(m for m in model.modules() if type(m).__name__.endswith("Attention"))
