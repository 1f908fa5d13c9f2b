"""Adapter files of quantised backbones, on the same and on other weights."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD
from torch.testing._internal.two_tensor import TwoTensor
from transformers import LlamaConfig, LlamaForCausalLM

from tests.zia_core.backbones import LANGUAGE, build, inputs, open_gates, output
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
from zia_core.adapters import adapter_state_dict
from zia_core.identity import backbone_identity

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)
BATCH = inputs("llama-gqa")
HOW: dict[str, dict[str, Any]] = {
    "nf4": {"load_in_4bit": True, "bnb_4bit_quant_type": "nf4"},
    "fp4": {"load_in_4bit": True, "bnb_4bit_use_double_quant": True},
    "int8": {"load_in_8bit": True},
}


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("checkpoint")
    torch.manual_seed(0)
    sizes = LANGUAGE | {"hidden_size": 64, "num_hidden_layers": 2, "num_key_value_heads": 2}
    LlamaForCausalLM(LlamaConfig(**sizes, initializer_range=0.2)).save_pretrained(folder)
    return folder


def loaded(checkpoint: Path, how: str | None = None) -> Any:
    """The model in eval mode, quantised by bitsandbytes or not."""
    if how is None:
        return LlamaForCausalLM.from_pretrained(checkpoint).eval()
    pytest.importorskip("bitsandbytes")
    from transformers import BitsAndBytesConfig

    options = {"quantization_config": BitsAndBytesConfig(**HOW[how]), "device_map": "cpu"}
    return LlamaForCausalLM.from_pretrained(checkpoint, **options).eval()


@torch.no_grad()
def run(model: nn.Module) -> torch.Tensor:
    return output(model, BATCH)


@pytest.mark.parametrize("how", HOW)
def test_the_file_is_of_the_quantised_weights_and_says_so(
    how: str, checkpoint: Path, tmp_path: Path
) -> None:
    model = loaded(checkpoint, how)
    identity, before = backbone_identity(model), run(model)
    assert backbone_identity(model) == identity, "a pass has changed the fingerprint"
    expected = run(open_gates(attach(model, CONFIG)))
    assert not torch.equal(expected, before)
    save_adapter(model, tmp_path)
    fresh = load_adapter(loaded(checkpoint, how), tmp_path)
    # A pass before attach() may have packed the weights in another form.
    torch.testing.assert_close(run(fresh), expected, rtol=0.1, atol=0.1)
    assert (
        save_adapter(fresh, tmp_path / "again").read_bytes()
        == (tmp_path / "adapter.safetensors").read_bytes()
    )
    with pytest.raises(ZiaError, match=rf"quantised as bitsandbytes {how}\), but.*other_backbone"):
        load_adapter(loaded(checkpoint), tmp_path)
    plain = load_adapter(loaded(checkpoint), tmp_path, other_backbone=True)
    save_adapter(plain, tmp_path)
    with pytest.raises(ZiaError, match=rf"this model is.*quantised as bitsandbytes {how}\) \(diff"):
        load_adapter(loaded(checkpoint, how), tmp_path)
    load_adapter(loaded(checkpoint, how), tmp_path, other_backbone=True)


@pytest.mark.parametrize("how", HOW)
def test_other_scales_are_other_weights(how: str, checkpoint: Path, tmp_path: Path) -> None:
    save_adapter(attach(loaded(checkpoint, how), CONFIG), tmp_path)
    model = loaded(checkpoint, how)
    weight = model.model.layers[1].mlp.up_proj.weight
    scales = weight.SCB if how == "int8" else weight.quant_state.absmax
    before = scales.clone()
    scales.copy_(scales.roll(1))
    with pytest.raises(ZiaError, match="different: weights"):
        load_adapter(model, tmp_path)
    scales.copy_(before)
    load_adapter(model, tmp_path)


def gradients(model: nn.Module) -> list[float]:
    """The norms of the prompts' gradients, lowest layer first; zero if there is none."""
    output(model, BATCH).square().mean().backward()
    prompts = [p for name, p in model.named_parameters() if name.endswith("prompt")]
    return [0.0 if p.grad is None else p.grad.norm().item() for p in prompts]


@pytest.mark.parametrize("how", HOW)
def test_an_evaluation_between_steps_keeps_the_gradients(how: str, checkpoint: Path) -> None:
    model = open_gates(attach(loaded(checkpoint, how), CONFIG))
    run(model)
    assert min(gradients(model)) > 0
    layer = model.model.layers[0].mlp.up_proj
    packs = vars(type(layer)(64, 64)).get("support_avx512bf16_for_cpu")
    assert (
        vars(detach(model).model.layers[0].mlp.up_proj).get("support_avx512bf16_for_cpu") == packs
    )


def test_an_evaluation_before_attaching_is_warned_of(checkpoint: Path) -> None:
    model = loaded(checkpoint, "nf4")
    if not model.model.layers[0].mlp.up_proj.support_avx512bf16_for_cpu:
        pytest.skip("bitsandbytes packs weights only on CPUs with AVX-512 BF16")
    run(model)
    attach(model, CONFIG)
    optimizer = SGD([p for p in model.parameters() if p.requires_grad], 0.1)
    assert gradients(open_gates(model))[0] == 0
    with pytest.warns(UserWarning, match="gradients end there; load the model again, and attach"):
        optimizer.step()


def test_a_weight_made_of_tensors_is_all_of_them(tmp_path: Path) -> None:
    """As torchao's are; this one is torch's own example of such a class."""

    def model(scale: float) -> Any:
        found = build("llama-gqa")
        up = found.model.layers[0].mlp.up_proj
        first = up.weight.detach()
        up.weight = nn.Parameter(TwoTensor(first, first * scale), requires_grad=False)
        return found

    save_adapter(attach(model(2.0), CONFIG), tmp_path)
    load_adapter(model(2.0), tmp_path)
    with pytest.raises(ZiaError, match=r"quantised as torch TwoTensor.*quantised as torch TwoT"):
        load_adapter(model(3.0), tmp_path)
    with pytest.raises(ZiaError, match="different: weights"):
        load_adapter(build("llama-gqa"), tmp_path)


def two_tensors(model: Any, *parts: str) -> Any:
    """Make weights of two tensors each, as quantised ones are."""
    for part in parts:
        module = model.get_submodule(part)
        weight = module.weight.detach()
        module.weight = nn.Parameter(TwoTensor(weight, weight.clone()), requires_grad=False)
    return model


def test_a_quantised_head_is_of_the_backbone(tmp_path: Path) -> None:
    saved = open_gates(attach(two_tensors(build("timm"), "head"), CONFIG))
    held = adapter_state_dict(saved)
    assert len(held) == 4
    assert all(".zero_init." in name for name in held)
    expected = output(saved, inputs("timm"))
    save_adapter(saved, tmp_path)
    loaded = load_adapter(two_tensors(build("timm"), "head"), tmp_path)
    assert torch.equal(output(loaded, inputs("timm")), expected)
    other = build("timm")
    with torch.no_grad():
        other.head.weight.add_(1)
    with pytest.raises(ZiaError, match="different: weights"):
        load_adapter(two_tensors(other, "head"), tmp_path)


def test_a_quantised_head_is_neither_trained_nor_loaded(tmp_path: Path) -> None:
    says = r"task head is quantised \(TwoTensor\).*quantise the model without its head"
    model = attach(two_tensors(build("timm"), "head"), CONFIG)
    with pytest.raises(ZiaError, match=says):
        train_head(model)
    for trained in (False, True):
        plain = attach(build("timm"), CONFIG)
        save_adapter(train_head(plain) if trained else plain, tmp_path)
        bare = two_tensors(build("timm"), "head")
        with pytest.raises(ZiaError, match=says):
            load_adapter(bare, tmp_path, other_backbone=True)
        assert not zero_init_layers(bare)
