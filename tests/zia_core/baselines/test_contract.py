"""The contract of every baseline: gradients, step 0, copies, saved tensors, half precision."""

import copy

import pytest
import torch
from torch import Tensor, nn
from transformers import RobertaConfig, RobertaForSequenceClassification

from tests.zia_core.backbones import ENCODER, build, inputs, output
from tests.zia_core.baselines.methods import (
    LANGUAGE,
    METHODS,
    PAIRS,
    VISION,
    adapted,
    may_train,
    stir,
    trained,
)
from zia_core import ZeroInitConfig, ZiaError, attach, baselines

everything = pytest.mark.parametrize(("name", "family"), PAIRS)


def answer(model: nn.Module, family: str) -> Tensor:
    return output(model, inputs(family, padded=family in LANGUAGE))


def loss(model: nn.Module, family: str) -> Tensor:
    """A loss that depends on every trained parameter, including both outputs of a span head."""
    if family in VISION:
        return answer(model, family).square().sum()
    result = model(**inputs(family, padded=True))
    return result.start_logits.square().sum() + result.end_logits.square().sum()


@everything
def test_gradients_only_where_they_belong(name: str, family: str) -> None:
    model = stir(adapted(name, family))
    assert all(may_train(name, parameter) for parameter in trained(model)), list(trained(model))
    assert set(baselines.head_parameters(model)) < set(trained(model)) or name == "linear"
    loss(model, family).backward()
    # A key's bias adds the same to all scores of a query, so its gradient is only rounding.
    silent = [n for n, p in trained(model).items() if p.grad is None or p.grad.abs().max() == 0.0]
    assert silent == [n for n in silent if "key.bias" in n or "k_proj.bias" in n]
    assert all(p.grad is None for p in model.parameters() if not p.requires_grad)


@everything
def test_the_method_trains_all_that_it_says(name: str, family: str) -> None:
    """The patterns in `methods` match something, so the test above is not vacuous."""
    names = trained(adapted(name, family))
    of_the_method = [n for n in names if n not in baselines.head_parameters(build(family))]
    assert bool(of_the_method) == (name != "linear")
    if name in ("vpt-deep", "p-tuning-v2"):
        assert len(of_the_method) == 3  # every block


@everything
def test_step_zero(name: str, family: str) -> None:
    """LoRA and methods that add nothing start at the backbone, adapters near it, prompts do not."""
    distance = (answer(adapted(name, family), family) - answer(build(family), family)).abs().max()
    scale = answer(build(family), family).abs().max()
    if name in ("linear", "bitfit", "lora"):
        assert distance == 0.0
    elif name.startswith("houlsby"):
        assert 0.0 < distance < 0.05 * scale
    else:
        assert distance > 0.01 * scale


@everything
def test_a_deep_copy_stands_alone(name: str, family: str) -> None:
    model = stir(adapted(name, family))
    before = answer(model, family)
    copied = copy.deepcopy(model)
    stir(model, seed=6)
    assert not torch.equal(answer(model, family), before)
    assert torch.equal(answer(copied, family), before)
    assert not torch.equal(answer(stir(copied, seed=7), family), before)


@everything
def test_trained_tensors_are_all_that_is_to_be_saved(name: str, family: str) -> None:
    model = stir(adapted(name, family))
    saved = {n: p.detach().clone() for n, p in trained(model).items()}
    other = adapted(name, family, seed=4)
    problems = other.load_state_dict(saved, strict=False)
    assert problems.unexpected_keys == []
    assert torch.equal(answer(other, family), answer(model, family))


@everything
def test_half_precision_backbone(name: str, family: str) -> None:
    """Trained parameters are float32 and get gradients; the rest stays as loaded."""
    if name == "bitfit":
        with pytest.raises(ZiaError, match=r"BitFit trains .*torch\.bfloat16; load .*float32"):
            adapted(name, family, dtype=torch.bfloat16)
        return
    model = adapted(name, family, dtype=torch.bfloat16)
    fresh = answer(adapted(name, family), family)
    torch.testing.assert_close(answer(model, family).float(), fresh, rtol=0.1, atol=0.1)
    loss(stir(model), family).backward()
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    assert {p.dtype for p in model.parameters() if not p.requires_grad} == {torch.bfloat16}
    assert all(p.grad is not None and p.grad.isfinite().all() for p in trained(model).values())
    before, copied = answer(model, family), copy.deepcopy(model)
    stir(model, seed=6)
    assert torch.equal(answer(copied, family), before)


@everything
def test_training_mode_and_autocast(name: str, family: str) -> None:
    """A step under bf16 autocast with dropout converts no parameter to half precision."""
    model = adapted(name, family).train()
    with torch.autocast("cpu", torch.bfloat16):
        value = loss(model, family)
    value.float().backward()
    assert all(p.grad.isfinite().all() for p in trained(model).values() if p.grad is not None)


@pytest.mark.parametrize("name", METHODS)
def test_a_model_without_task_head_is_refused_and_left_alone(name: str) -> None:
    family = METHODS[name].families[0]
    model = build(family)
    bare = model.base_model if family in LANGUAGE else model
    if family in VISION:
        model.reset_classifier(0)
    names = [n for n, _ in bare.named_parameters()]
    with pytest.raises(ZiaError, match="no task head"):
        METHODS[name].make(bare)
    assert [n for n, _ in bare.named_parameters()] == names


@pytest.mark.parametrize("name", ["houlsby", "side", "vpt-deep", "prompt"])
def test_another_kind_of_model_is_refused(name: str) -> None:
    with pytest.raises(ZiaError, match="LlamaForCausalLM"):
        METHODS[name].make(build("llama-mha"))


@pytest.mark.parametrize("family", VISION + LANGUAGE)
def test_zero_init_with_its_head(family: str) -> None:
    config = ZeroInitConfig(prompt_length=4, num_layers=2)
    model = baselines.train_head(attach(build(family).bfloat16(), config))
    head = baselines.head_parameters(model)
    assert {n.rpartition(".")[2] for n in trained(model)} == {"prompt", "gate", "weight", "bias"}
    assert set(head) == {n for n in trained(model) if ".zero_init." not in n}
    assert {p.dtype for p in trained(model).values()} == {torch.float32}
    answer(model, family).float().square().sum().backward()
    assert all(p.grad is not None for p in head.values())


def test_a_head_of_several_layers() -> None:
    model = RobertaForSequenceClassification(RobertaConfig(**ENCODER, num_labels=3)).bfloat16()
    baselines.linear_probe(model)
    assert sorted(trained(model)) == [
        f"classifier.{layer}.{part}"
        for layer in ("dense", "out_proj")
        for part in ("bias", "weight")
    ]
    ids = inputs("roberta")["input_ids"]
    assert model(input_ids=ids).logits.dtype == torch.float32
