"""Backbones quantised by torchao: gradients, files, and what is refused."""

import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim import SGD

from tests.zia_core.backbones import build, inputs, open_gates, output
from zia_core import (
    ZeroInitConfig,
    ZiaError,
    attach,
    detach,
    load_adapter,
    save_adapter,
    train_head,
    zero_init_layers,
)
from zia_core.identity import backbone_identity

torchao = pytest.importorskip("torchao.quantization")

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)
GROUPS = torchao.PerGroup(16)
HOW: dict[str, Callable[[], Any]] = {
    "Int8Tensor": torchao.Int8WeightOnlyConfig,
    "IntxUnpackedToInt8Tensor": lambda: torchao.IntxWeightOnlyConfig(
        weight_dtype=torch.int4, granularity=GROUPS
    ),
}
HEADS = ("lm_head", "qa_outputs", "head")
FAMILIES = ["llama-gqa", "bert", "timm"]


def is_body(module: nn.Module, name: str) -> bool:
    return isinstance(module, nn.Linear) and name not in HEADS


def quantised(family: str, how: str, everything: bool = False) -> Any:
    model = build(family)
    options = {} if everything else {"filter_fn": is_body}
    torchao.quantize_(model, HOW[how](), **options)
    return model


def dequantised(model: nn.Module) -> nn.Module:
    """The same values as plain weights."""
    for module in model.modules():
        if isinstance(module, nn.Linear) and type(module.weight) is not nn.Parameter:
            weight: Any = module.weight
            module.weight = nn.Parameter(weight.dequantize().detach(), requires_grad=False)
    return model


@torch.no_grad()
def run(model: nn.Module, family: str) -> Tensor:
    return output(model, inputs(family))


def gradients(model: nn.Module, family: str) -> dict[str, Tensor]:
    output(model, inputs(family)).square().mean().backward()
    return {n: p.grad for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("family", FAMILIES)
def test_outputs_and_gradients_are_those_of_the_weights_values(family: str, how: str) -> None:
    bare = quantised(family, how)
    plain = run(bare, family)
    model = attach(bare, CONFIG)
    assert torch.equal(run(model, family), plain)
    reference = attach(dequantised(quantised(family, how)), CONFIG)
    for each in (model, reference):
        torch.manual_seed(3)
        open_gates(each)
        for layer in zero_init_layers(each):
            nn.init.normal_(layer.prompt)
    expected = run(reference, family)
    torch.testing.assert_close(run(model, family), expected, rtol=1e-5, atol=1e-5)
    assert not torch.allclose(expected, plain, atol=1e-2)
    wanted = gradients(reference, family)
    found = gradients(model, family)
    assert len(wanted) == 4
    assert found.keys() == wanted.keys()
    for name, gradient in wanted.items():
        assert gradient.abs().max() > 0
        torch.testing.assert_close(found[name], gradient, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("family", FAMILIES)
def test_an_adapter_is_saved_loaded_and_taken_off(family: str, how: str, tmp_path: Path) -> None:
    """With all linear layers quantised, heads too."""
    model = quantised(family, how, everything=True)
    before, identity = run(model, family), backbone_identity(model)
    attach(model, CONFIG)
    assert backbone_identity(model) == identity
    expected = run(open_gates(model), family)
    path = save_adapter(model, tmp_path / "once")
    fresh = load_adapter(quantised(family, how, everything=True), path)
    assert torch.equal(run(fresh, family), expected)
    assert save_adapter(fresh, tmp_path / "again").read_bytes() == path.read_bytes()
    assert torch.equal(run(detach(model), family), before)
    with pytest.raises(ZiaError, match=rf"quantised as torchao {how}\), but.*other_backbone=True"):
        load_adapter(build(family), path)
    load_adapter(build(family), path, other_backbone=True)
    other = quantised(family, how, everything=True)
    weight: Any = next(w for n, w in other.named_parameters() if hasattr(w, "qdata"))
    weight.scale.mul_(1.01)
    with pytest.raises(ZiaError, match="different: weights"):
        load_adapter(other, path)
    assert not zero_init_layers(other)


@pytest.mark.parametrize("how", HOW)
def test_the_adapter_is_trained_beside_a_plain_head(how: str, tmp_path: Path) -> None:
    model = train_head(attach(quantised("timm", how), CONFIG))
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    losses = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        for _ in range(4):
            loss = output(model, inputs("timm")).square().mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
            losses.append(loss.item())
    assert losses == sorted(losses, reverse=True)
    save_adapter(model, tmp_path)
    loaded = load_adapter(quantised("timm", how), tmp_path)
    assert torch.equal(run(loaded, "timm"), run(model, "timm"))


def test_transformers_loads_the_same_weights(tmp_path: Path) -> None:
    from transformers import LlamaForCausalLM, TorchAoConfig

    def from_pretrained() -> Any:
        how = TorchAoConfig(HOW["Int8Tensor"]())
        options = {"quantization_config": how, "device_map": "cpu"}
        return LlamaForCausalLM.from_pretrained(tmp_path / "model", **options).eval()

    build("llama-gqa").save_pretrained(tmp_path / "model")
    model = open_gates(attach(from_pretrained(), CONFIG))
    save_adapter(model, tmp_path / "adapter")
    loaded = load_adapter(from_pretrained(), tmp_path / "adapter")
    by_hand = load_adapter(quantised("llama-gqa", "Int8Tensor"), tmp_path / "adapter")
    options = {"max_new_tokens": 5, "do_sample": False, **inputs("llama-gqa")}
    expected = model.generate(**options)
    for each in (loaded, by_hand):
        assert torch.equal(run(each, "llama-gqa"), run(model, "llama-gqa"))
        assert torch.equal(each.generate(**options), expected)


def test_quantised_activations_serve_and_do_not_train(tmp_path: Path) -> None:
    """torchao's products with them have no gradient."""

    def dynamic() -> Any:
        model = build("timm")
        how = torchao.Int8DynamicActivationInt8WeightConfig()
        torchao.quantize_(model, how, filter_fn=is_body)
        return model

    bare = dynamic()
    before = run(bare, "timm")
    model = attach(bare, CONFIG)
    assert torch.equal(run(model, "timm"), before)
    expected = run(open_gates(model), "timm")
    save_adapter(model, tmp_path)
    assert torch.equal(run(load_adapter(dynamic(), tmp_path), "timm"), expected)
    train_head(model)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    output(model, inputs("timm")).square().mean().backward()
    with pytest.warns(UserWarning, match="no gradient has reached prompts and gates"):
        optimizer.step()
