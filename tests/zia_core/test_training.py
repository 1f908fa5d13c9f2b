"""Common operations of training code: modes, checkpointing, compilation, moves, copies."""

import copy

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from tests.zia_core.backbones import LANGUAGE, adapted, build, inputs, open_gates, output
from zia_core import (
    ZeroInitConfig,
    adapter_state_dict,
    attach,
    detach,
    frozen_prompts,
    zero_init_layers,
)

CONFIG = ZeroInitConfig(prompt_length=5, num_layers=2)


def train_step(model: torch.nn.Module, optimizer: torch.optim.Optimizer, family: str) -> float:
    loss = output(model, inputs(family)).square().mean()
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "timm"])
def test_eval_train_eval(family: str) -> None:
    """LitGPT caches prompt keys in validation; its prompts then get no gradient."""
    model = adapted(family)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.05)
    with torch.no_grad(), frozen_prompts(model.eval()):
        before = output(model, inputs(family))
    model.train()
    for _ in range(3):
        train_step(model, optimizer, family)
        for layer in zero_init_layers(model):
            assert layer.prompt.grad.abs().min() > 0
            assert layer.gate.grad.abs().min() > 0
    with torch.no_grad(), frozen_prompts(model.eval()):
        after = output(model, inputs(family))
    assert (after - before).abs().max() > 1e-4
    with torch.no_grad():
        assert torch.equal(after, output(copy.deepcopy(model), inputs(family)))


def test_training_inside_the_frozen_block_still_reaches_the_prompts() -> None:
    """Prompts cached without autograd must not be used with it."""
    model, batch = adapted("llama-gqa"), inputs("llama-gqa")
    with frozen_prompts(model):
        with torch.no_grad():
            output(model, batch)
        output(model, batch).square().mean().backward()
    assert all(layer.prompt.grad.abs().min() > 0 for layer in zero_init_layers(model))


def test_zero_gates_train_first_then_prompts() -> None:
    """d out/d prompt is multiplied by a(0) = 0: step 1 moves gates only, step 2 both."""
    model = attach(build("llama-gqa"), CONFIG)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    train_step(model, optimizer, "llama-gqa")
    assert all(layer.prompt.grad.abs().max() == 0 for layer in zero_init_layers(model))
    assert all(layer.gate.grad.abs().min() > 0 for layer in zero_init_layers(model))
    train_step(model, optimizer, "llama-gqa")
    assert all(layer.prompt.grad.abs().min() > 0 for layer in zero_init_layers(model))


@pytest.mark.parametrize("family", ["llama-gqa", "gemma3", "bert", "vit"])
def test_gradient_checkpointing_changes_nothing(family: str) -> None:
    plain, saving = adapted(family).train(), adapted(family).train()
    saving.gradient_checkpointing_enable()
    for model in (plain, saving):
        output(model, inputs(family)).square().mean().backward()
    for ours, theirs in zip(zero_init_layers(plain), zero_init_layers(saving), strict=True):
        assert torch.equal(ours.prompt.grad, theirs.prompt.grad)
        assert torch.equal(ours.gate.grad, theirs.gate.grad)


def test_layers_below_the_first_prompt_build_no_graph() -> None:
    model = adapted("llama-gqa").train()
    states = model(**inputs("llama-gqa"), output_hidden_states=True).hidden_states
    assert [state.requires_grad for state in states] == [False, False, True, True]


@pytest.mark.parametrize("family", ["llama-gqa", "roberta", "timm"])
def test_compiled_training_step_has_no_graph_break(family: str) -> None:
    torch._dynamo.reset()
    model = adapted(family).train()
    expected = output(model, inputs(family))
    expected.square().mean().backward()
    gradient = zero_init_layers(model)[0].prompt.grad.clone()
    model.zero_grad()
    batch = inputs(family)
    compiled = torch.compile(lambda b: output(model, b), fullgraph=True, backend="aot_eager")
    result = compiled(batch)
    result.square().mean().backward()
    torch.testing.assert_close(result, expected)
    torch.testing.assert_close(zero_init_layers(model)[0].prompt.grad, gradient)


def test_dtype_and_device_moves() -> None:
    model = adapted("llama-gqa")
    expected = output(model, inputs("llama-gqa"))
    assert torch.allclose(output(model.double(), inputs("llama-gqa")).float(), expected, atol=1e-4)
    half = output(model.bfloat16(), inputs("llama-gqa"))
    assert half.dtype == torch.bfloat16
    assert torch.allclose(half.float(), expected, atol=0.3)
    meta = adapted("llama-gqa").to("meta")
    assert meta(input_ids=torch.zeros(1, 4, dtype=torch.long, device="meta")).logits.is_meta


def test_prompts_stay_float32_over_half_precision_weights() -> None:
    model = attach(build("llama-gqa").bfloat16(), CONFIG)
    assert {p.dtype for p in model.parameters() if p.requires_grad} == {torch.float32}
    assert output(model, inputs("llama-gqa")).dtype == torch.bfloat16


def test_state_dict_round_trip() -> None:
    source = adapted("llama-gqa")
    target = attach(build("llama-gqa", seed=5), CONFIG)
    target.load_state_dict(source.state_dict(), strict=True)
    assert torch.equal(output(source, inputs("llama-gqa")), output(target, inputs("llama-gqa")))
    assert list(adapter_state_dict(source)) == [
        f"model.layers.{i}.self_attn.zero_init.{part}"
        for i in (1, 2)
        for part in ("prompt", "gate")
    ]


def test_models_of_one_config_object_stay_apart() -> None:
    config = LlamaConfig(**LANGUAGE)
    torch.manual_seed(0)
    first, second, third = (LlamaForCausalLM(config).eval() for _ in range(3))
    batch = inputs("llama")
    expected = [output(model, batch) for model in (first, second, third)]
    open_gates(attach(first, CONFIG))
    attach(second, ZeroInitConfig(3, 1))
    assert config._attn_implementation == "sdpa"
    assert not torch.allclose(output(first, batch), expected[0])
    assert torch.equal(output(second, batch), expected[1])
    assert torch.equal(output(third, batch), expected[2])
    detach(first)
    assert torch.equal(output(first, batch), expected[0])
    assert len(zero_init_layers(second)) == 1


@pytest.mark.parametrize("family", ["llama-gqa", "timm"])
def test_a_deep_copy_is_independent(family: str) -> None:
    model, batch = adapted(family), inputs(family)
    expected = output(model, batch)
    twin = copy.deepcopy(model)
    open_gates(twin, seed=9)
    changed = output(twin, batch)
    assert not torch.allclose(changed, expected)
    assert torch.equal(output(model, batch), expected)
    detach(model)
    assert torch.equal(output(twin, batch), changed)
    assert torch.equal(output(detach(twin), batch), output(model, batch))


def test_generation_of_a_deep_copy_uses_the_copy() -> None:
    model = adapted("llama-gqa")
    twin = copy.deepcopy(model)
    ids = inputs("llama-gqa")["input_ids"]
    for layer in zero_init_layers(twin):
        layer.gate.data.zero_()
    options = {"max_new_tokens": 6, "do_sample": False, "eos_token_id": None}
    assert torch.equal(twin.generate(ids, **options), detach(model).generate(ids, **options))
