"""Language baselines against PEFT, transformers' own cache, and merged weights."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
import transformers
from peft import PromptTuningConfig, get_peft_model
from torch import Tensor, nn
from transformers import (
    AttentionInterface,
    BertConfig,
    BertForSequenceClassification,
    DynamicCache,
)
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from tests.zia_core.backbones import ENCODER, build, inputs, open_gates, output
from tests.zia_core.backbones import LANGUAGE as SIZES
from tests.zia_core.baselines.methods import LANGUAGE, adapted, stir
from zia_core import ZeroInitConfig, ZiaError, attach, baselines, detach, zero_init_layers
from zia_core.head import task_head

K, T = 4, 9
both = pytest.mark.parametrize("family", LANGUAGE)
# Other encoders like BERT, what is set in their configurations, and queries and values of a layer.
OTHERS: dict[str, tuple[dict[str, Any], str, str]] = {
    "XLMRoberta": (ENCODER, "query", "value"),
    "Camembert": (ENCODER, "query", "value"),
    "Electra": (ENCODER | {"embedding_size": 20}, "query", "value"),
    "DistilBert": (
        {"vocab_size": 61, "dim": 48, "hidden_dim": 64, "n_layers": 3, "n_heads": 4,
         "dropout": 0.0, "attention_dropout": 0.0, "max_position_embeddings": 64},
        "q_lin", "v_lin",
    ),
    # Two words to each side in the second and the third layer.
    "ModernBert": (
        SIZES | {"local_attention": 4, "cls_token_id": 1, "sep_token_id": 2}, "Wqkv", "Wqkv"
    ),
}  # fmt: skip
others = pytest.mark.parametrize("kind", OTHERS)


def words() -> dict[str, Tensor]:
    return inputs("bert", length=T, padded=True)


def base(model: Any) -> Any:
    return model.base_model


@both
def test_prompt_tuning_is_pefts_without_the_prompts_own_outputs(family: str) -> None:
    ours = adapted("prompt", family).double()
    config = PromptTuningConfig(task_type="QUESTION_ANS", num_virtual_tokens=K)
    theirs = get_peft_model(build(family).double(), config).eval()
    with torch.no_grad():
        theirs.prompt_encoder["default"].embedding.weight.copy_(base(ours).soft_prompt.prompt)
    expected, found = theirs(**words()), ours(**words())
    for name in ("start_logits", "end_logits"):
        assert getattr(expected, name).shape[1] == K + T  # why PEFT's is not used: spans are off
        torch.testing.assert_close(getattr(found, name), getattr(expected, name)[:, K:].double())


def test_prompt_tuning_keeps_the_segments() -> None:
    """PEFT drops `token_type_ids`, which tell BERT the question from the text."""
    model, bare = stir(adapted("prompt", "bert", dtype=torch.float64)), build("bert").double()
    segments = (torch.arange(T) > 4).long().expand(2, T)
    table, prompt = bare.bert.embeddings.word_embeddings, base(model).soft_prompt.prompt
    batch = words()
    hidden = bare.bert(
        inputs_embeds=torch.cat([prompt.expand(2, K, -1), table(batch["input_ids"])], 1),
        attention_mask=torch.cat([torch.ones(2, K).long(), batch["attention_mask"]], 1),
        token_type_ids=torch.cat([torch.zeros(2, K).long(), segments], 1),
    ).last_hidden_state[:, K:]
    expected = model.qa_outputs(hidden)[..., 0]
    found = model(**batch, token_type_ids=segments).start_logits
    torch.testing.assert_close(found, expected, rtol=1e-10, atol=1e-10)


def test_prompt_tuning_leaves_cls_to_the_pooler() -> None:
    torch.manual_seed(0)
    model = BertForSequenceClassification(BertConfig(**ENCODER)).eval()
    baselines.prompt_tuning(model, K)
    batch = words()
    outputs = model.bert(**batch)
    assert outputs.last_hidden_state.shape[1] == T
    expected = model.bert.pooler(outputs.last_hidden_state)
    assert torch.equal(outputs.pooler_output, expected)


@both
def test_prompt_tuning_masks_and_embeddings(family: str) -> None:
    model = adapted("prompt", family)
    batch = inputs(family, length=T)
    ones = torch.ones(2, T, dtype=torch.long)
    plain = output(model, batch)
    assert torch.equal(output(model, {**batch, "attention_mask": ones}), plain)
    embeds = base(model).get_input_embeddings()(batch["input_ids"])
    assert torch.equal(model(inputs_embeds=embeds).start_logits, plain)
    padded = words()
    changed = {**padded, "input_ids": padded["input_ids"].clone()}
    changed["input_ids"][0, -3:] = 5
    torch.testing.assert_close(output(model, padded), output(model, changed))  # padding is not read


def test_prompt_tuning_starts_at_words() -> None:
    model = adapted("prompt", "bert")
    table = base(model).get_input_embeddings().weight
    for row in base(model).soft_prompt.prompt:
        assert (table == row).all(-1).any()


def test_prompt_tuning_refusals() -> None:
    model = baselines.prompt_tuning(build("roberta"), K)
    longest = 64 - 1 - K  # position 0 is padding's
    ids = torch.ones(1, longest + 1, dtype=torch.long)
    model(input_ids=ids[:, :-1])
    with pytest.raises(ZiaError, match=f"4 prompts and 60 words.*at most {longest} words"):
        model(input_ids=ids)
    with pytest.raises(ZiaError, match="leave position_ids out"):
        model(input_ids=ids[:, :5], position_ids=torch.arange(5)[None])


def through_the_cache(model: Any, batch: dict[str, Tensor]) -> Tensor:
    """Span logits with the adapted `model`'s prefixes passed as past keys and values."""
    prefixes = [layer.prompt.detach() for layer in zero_init_layers(model)]
    head = model.qa_outputs
    bare = base(detach(model))
    cache = DynamicCache()
    for index, prompt in enumerate(prefixes):
        key, value = (part.view(K, 4, 12).transpose(0, 1).expand(2, -1, -1, -1) for part in prompt)
        cache.update(key, value, index)
    mask = torch.cat([torch.ones(2, K, dtype=torch.long), batch["attention_mask"]], 1)
    first = 0 if "Bert" in type(bare).__name__[:4] else 1  # RoBERTa counts from behind padding
    hidden = bare(
        input_ids=batch["input_ids"],
        attention_mask=mask[:, None, None, :].bool().expand(2, 1, T, K + T),
        # Given, because a cache would otherwise shift them by K.
        position_ids=torch.arange(first, first + T)[None],
        past_key_values=cache,
    ).last_hidden_state
    assert cache.get_seq_length() == K + T
    return head(hidden)[..., 0] * batch["attention_mask"]


@both
def test_p_tuning_v2_is_prefix_attention_through_past_key_values(family: str) -> None:
    model = stir(adapted("p-tuning-v2", family, dtype=torch.float64))
    batch = words()
    ours = output(model, batch)
    assert (ours - output(build(family).double(), batch)).abs().max() > 0.1
    torch.testing.assert_close(ours, through_the_cache(model, batch), rtol=1e-8, atol=1e-8)


def test_p_tuning_v2_starts_standard_normal() -> None:
    model = baselines.p_tuning_v2(build("bert"), 200)
    prompts = torch.stack([layer.prompt for layer in zero_init_layers(model)])
    assert prompts.std().item() == pytest.approx(1.0, rel=0.02)
    assert prompts.mean().abs() < 0.02


@pytest.mark.parametrize("softmax", ["joint", "separate"])
@pytest.mark.parametrize("family", ["bert", "timm"])
def test_prefix_dropout(family: str, softmax: Any) -> None:
    """A mask per sample in training, off in evaluation, gated or not."""
    config = ZeroInitConfig(K, 1, prompt_source="key_value", softmax=softmax)
    model = baselines.prefix_dropout(open_gates(attach(build(family), config)), 0.5)
    row = {name: tensor[:1] for name, tensor in inputs(family).items()}
    pair = {name: tensor.expand(2, *tensor.shape[1:]) for name, tensor in row.items()}
    first, second = output(model.train(), pair)
    assert not torch.allclose(first, second)
    plain = open_gates(attach(build(family), config))
    plain.load_state_dict(model.state_dict())
    torch.testing.assert_close(output(model.eval(), pair), output(plain, pair))


def test_prefix_dropout_keeps_or_zeroes_and_rescales() -> None:
    model = baselines.p_tuning_v2(build("bert"), 50, dropout=0.25).train()
    layer = zero_init_layers(model)[0]
    prompts = layer(None, torch.float32, batch=8)
    for part, dropped in zip(layer.prompt, (prompts.key, prompts.value), strict=True):
        assert dropped.shape == (8, 4, 50, 12)
        whole = part.view(50, 4, 12).transpose(0, 1).expand_as(dropped) / 0.75
        zero = dropped == 0
        assert abs(zero.double().mean().item() - 0.25) < 0.02
        torch.testing.assert_close(dropped[~zero], whole[~zero])


def test_prefix_dropout_is_for_free_prompts() -> None:
    for model in (build("bert"), attach(build("bert"), ZeroInitConfig(K, 1))):
        with pytest.raises(ZiaError, match="prompt_source='key_value'"):
            baselines.prefix_dropout(model, 0.1)


@both
def test_lora_merged_into_the_backbone(family: str) -> None:
    """W + (alpha / r) B A on queries and values."""
    model, bare = stir(adapted("lora", family, dtype=torch.float64)), build(family).double()
    bare.qa_outputs.load_state_dict(model.qa_outputs.state_dict())
    layers = zip(base(bare).encoder.layer, base(model).encoder.layer, strict=True)
    with torch.no_grad():
        for layer, own in layers:
            for part in ("query", "value"):
                linear = getattr(own.attention.self, part)
                A, B = linear.lora_A["default"].weight, linear.lora_B["default"].weight
                getattr(layer.attention.self, part).weight.add_(16 / 3 * B @ A)
    torch.testing.assert_close(output(model, words()), output(bare, words()), rtol=1e-9, atol=1e-9)


@both
def test_houlsby_adapts_before_the_skip_connection_and_its_norm(family: str) -> None:
    model = stir(adapted("houlsby", family, dtype=torch.float64))
    block, seen = base(model).encoder.layer[1], {}
    for name in ("attention", "mlp"):
        adapter = getattr(block, f"adapter_{name}")
        place = block.attention.output if name == "attention" else block.output
        place.dense.register_forward_hook(lambda _, a, out, n=name: seen.update({(n, "in"): out}))
        place.LayerNorm.register_forward_pre_hook(
            lambda _, args, n=name: seen.update({(n, "sum"): args[0]})
        )
        place.register_forward_pre_hook(lambda _, args, n=name: seen.update({(n, "skip"): args[1]}))
        assert adapter.down.out_features == 5
    output(model, words())
    for name in ("attention", "mlp"):
        adapted_output = getattr(block, f"adapter_{name}")(seen[name, "in"])
        torch.testing.assert_close(seen[name, "sum"], adapted_output + seen[name, "skip"])


def other(kind: str, seed: int = 0) -> Any:
    """A tiny model for questions in float64, its head included the same for a seed."""
    torch.manual_seed(seed)
    config = getattr(transformers, f"{kind}Config")(**OTHERS[kind][0])
    model = getattr(transformers, f"{kind}ForQuestionAnswering")(config).double().eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.15 * torch.randn_like(parameter))
    return model


def hidden_to_logits(model: Any, hidden: Tensor) -> Tensor:
    hidden = model.head(hidden) if hasattr(model, "head") else hidden
    logits: Tensor = task_head(model)(hidden)
    return logits[..., 0]


@others
def test_prompt_tuning_puts_embeddings_first(kind: str) -> None:
    model, bare, batch = stir(baselines.prompt_tuning(other(kind), K)), other(kind), words()
    bare.load_state_dict(model.state_dict(), strict=False)  # the head
    prompt = base(model).soft_prompt.prompt.expand(2, K, -1)
    hidden = base(bare)(
        inputs_embeds=torch.cat([prompt, bare.get_input_embeddings()(batch["input_ids"])], 1),
        attention_mask=torch.cat([torch.ones(2, K).long(), batch["attention_mask"]], 1),
    ).last_hidden_state[:, K:]
    found = model(**batch).start_logits
    assert found.shape == (2, T)
    torch.testing.assert_close(found, hidden_to_logits(bare, hidden), rtol=1e-6, atol=1e-6)
    longest = 64 - K - (1 if kind in ("XLMRoberta", "Camembert") else 0)  # 0 is padding's
    model(input_ids=torch.full((1, longest), 5))
    with pytest.raises(ZiaError, match=f"use at most {longest} words"):
        model(input_ids=torch.full((1, longest + 1), 5))


@others
def test_lora_is_on_queries_and_values(kind: str) -> None:
    """W + (alpha / r) B A; of ModernBERT's fused layer, on its first and last thirds."""
    model, bare = stir(baselines.lora_encoder(other(kind), 3)), other(kind)
    task_head(bare).load_state_dict(task_head(model).state_dict())
    query, value = OTHERS[kind][1:]
    layers = [module for module in model.modules() if hasattr(module, query)]
    own = [module for module in bare.modules() if hasattr(module, query)]
    assert len(layers) == len(own) == 3
    with torch.no_grad():
        for adapted_layer, layer in zip(layers, own, strict=True):
            if query == value:
                thirds = getattr(layer, query).weight.chunk(3)
                terms = adapted_layer.lora.query, adapted_layer.lora.value
                pairs = [(part.lora_A.weight, part.lora_B.weight) for part in terms]
            else:
                thirds = [getattr(layer, name).weight for name in (query, query, value)]
                pairs = [
                    (part.lora_A["default"].weight, part.lora_B["default"].weight)
                    for part in (getattr(adapted_layer, query), getattr(adapted_layer, value))
                ]
            for weight, (A, B) in zip((thirds[0], thirds[2]), pairs, strict=True):
                weight.add_(16 / 3 * B @ A)
    found, expected = output(model, words()), output(bare, words())
    assert (found - output(other(kind), words())).abs().max() > 0.01
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)


@contextmanager
def by_hand(bare: nn.Module, prompts: list[Tensor], gates: list[Tensor] | None) -> Iterator[None]:
    """Attention to prompts and to the words that the mask allows, as the equations have it.

    Args:
        bare: the model without prompts.
        prompts: keys and values of each layer, [2, K, C].
        gates: of each layer, [H], for two softmaxes; None for a joint one.
    """

    def attend(
        module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Tensor, **_: Any
    ) -> tuple[Tensor, None]:
        scale, length = q.shape[-1] ** -0.5, k.shape[-2]
        key, value = (p.view(K, 4, 12).transpose(0, 1) for p in prompts[module.layer_idx])
        to_words, to_prompts = q @ k.mT * scale, q @ key.mT * scale
        if mask is not None:
            to_words = to_words + mask[..., :length]
        if gates is None:
            shares = torch.cat([to_prompts, to_words], -1).softmax(-1)
            found = shares[..., :K] @ value + shares[..., K:] @ v
        else:
            gate = gates[module.layer_idx].tanh()[:, None, None]
            found = to_words.softmax(-1) @ v + gate * (to_prompts.softmax(-1) @ value)
        return found.transpose(1, 2), None

    AttentionInterface.register("by_hand", attend)
    AttentionMaskInterface.register("by_hand", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    bare.set_attn_implementation("by_hand")
    yield


@pytest.mark.parametrize("length", [9, 30])
@pytest.mark.parametrize("softmax", ["joint", "separate"])
def test_prefixes_are_seen_through_modernberts_local_attention(softmax: Any, length: int) -> None:
    """By every word of every layer, beside the words of its window."""
    model, bare = other("ModernBert"), other("ModernBert")
    config = ZeroInitConfig(K, 3, prompt_source="key_value", softmax=softmax)
    layers = zero_init_layers(open_gates(attach(model, config)))
    batch = inputs("bert", length=length, padded=True)
    batch["attention_mask"][1, 5:] = 0  # further padding than a window is wide
    gates = None if softmax == "joint" else [layer.gate for layer in layers]
    plain = output(bare, batch)
    with by_hand(bare, [layer.prompt for layer in layers], gates):
        expected = output(bare, batch)
    found = output(model, batch)
    assert (found - plain).abs().max() > 0.1
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=1e-6)
    found.sum().backward()
    for layer in layers:
        assert layer.prompt.grad.isfinite().all()
        assert layer.prompt.grad.abs().sum() > 0
