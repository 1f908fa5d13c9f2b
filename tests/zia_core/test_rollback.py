"""Changes to a model are complete or undone, wherever they fail."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn
from transformers import LlamaForCausalLM

from tests.zia_core.backbones import adapted, build, inputs, output
from zia_core import (
    VisualConfig,
    ZeroInitConfig,
    ZiaError,
    attach,
    attach_visual,
    baselines,
    detach,
    frozen_prompts,
    load_adapter,
    save_adapter,
    train_head,
    zero_init_layers,
)
from zia_core.baselines.houlsby import Bottleneck
from zia_core.baselines.lora_encoder import FusedLora
from zia_core.baselines.vpt import VisualPrompt
from zia_core.timm_hook import TimmZeroInit
from zia_core.transformers_hook import TransformersZeroInit

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)


def state(model: nn.Module) -> dict[str, Any]:
    """Everything that an incomplete change could leave behind."""
    found: dict[str, Any] = {}
    for name, module in model.named_modules():
        plain = {k: id(v) for k, v in vars(module).items() if not k.startswith("_")}
        hooks = {
            k: list(v) for k, v in vars(module).items() if k.endswith("hooks") and v is not None
        }
        found[name] = (type(module), sorted(vars(module)), plain, hooks)
    for name, parameter in model.named_parameters():
        found[name] = (id(parameter), parameter.dtype, parameter.requires_grad, parameter.tolist())
    return found


def assert_unchanged(model: nn.Module, change: Callable[[nn.Module], Any], says: str) -> None:
    some = list(model.parameters())
    some[0].requires_grad_(False)  # so that the flags differ
    before = state(model)
    with pytest.raises((ZiaError, MemoryError), match=says):
        change(model)
    after = state(model)
    assert after.keys() == before.keys()
    assert {name for name in before if after[name] != before[name]} == set()


def small(name: str, **options: Any) -> nn.Module:
    return timm.create_model(name, num_classes=5, **options).eval()


NOT_VITS: dict[str, Callable[[], nn.Module]] = {
    "pvt_v2": lambda: small("pvt_v2_b0", depths=(1, 1, 1, 1), embed_dims=(8, 16, 40, 64)),
    "samvit": lambda: small("samvit_base_patch16", embed_dim=24, depth=2, num_heads=2, img_size=64),
    "levit": lambda: small("levit_128s"),
}


@pytest.mark.parametrize("name", NOT_VITS)
def test_a_timm_class_is_known_by_its_module(name: str) -> None:
    says = r"attention timm\.models\.\w+\.Attention .* is not among the tested families"
    assert_unchanged(NOT_VITS[name](), lambda model: attach(model, CONFIG), says)


REFUSED: dict[str, tuple[Callable[[], nn.Module], Callable[[Any], Any], str]] = {
    "linear, no head": (lambda: build("llama-gqa"), baselines.linear_probe, "no task head"),
    "bitfit, no head": (lambda: build("llama-gqa"), baselines.bitfit, "no task head"),
    "p-tuning, no head": (lambda: build("llama-gqa"), baselines.p_tuning_v2, "no task head"),
    "lora, no such layers": (
        lambda: build("bert"),
        lambda m: baselines.lora(m, targets=("nothing",)),
        "PEFT's LoRA",
    ),
    "houlsby, another Block": (
        lambda: small("beit_base_patch16_224", embed_dim=24, depth=2, num_heads=2),
        baselines.houlsby,
        "does not support",
    ),
    "vpt, no ViT": (NOT_VITS["pvt_v2"], lambda m: baselines.vpt(m, 3, deep=True), "is no"),
    "side, no ViT": (NOT_VITS["pvt_v2"], baselines.side_tuning, "is not built like"),
    "prompts, no encoder": (lambda: build("llama-gqa"), baselines.prompt_tuning, "BERT, RoBERTa"),
    "prompts, no head": (lambda: build("bert").bert, baselines.prompt_tuning, "no task head"),
    "adaption prompt": (lambda: build("bert"), baselines.adaption_prompt, "AdaptionPrompt"),
    "visual, free prompts": (
        lambda: adapted("llama-gqa", prompt_source="key_value"),
        lambda m: attach_visual(m, VisualConfig(6)),
        "prompt_source='hidden'",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_is_left_alone(case: str) -> None:
    make, change, says = REFUSED[case]
    assert_unchanged(make(), change, says)


def failing(monkeypatch: pytest.MonkeyPatch, owner: Any, name: str, at: int) -> None:
    """Make call number `at` fail, as if out of memory."""
    whole, calls = getattr(owner, name), iter(range(1, 100))

    def fails(*args: Any, **kwargs: Any) -> Any:
        if next(calls) == at:
            raise MemoryError("on purpose")
        return whole(*args, **kwargs)

    monkeypatch.setattr(owner, name, fails)


HALFWAY: dict[str, tuple[str, Callable[[Any], Any], tuple[Any, str, int]]] = {
    "timm": ("timm", lambda m: attach(m, CONFIG), (TimmZeroInit, "install", 2)),
    "llama": ("llama-gqa", lambda m: attach(m, CONFIG), (TransformersZeroInit, "install", 2)),
    "houlsby": ("timm", baselines.houlsby, (Bottleneck, "__init__", 4)),
    "vpt": ("timm", lambda m: baselines.vpt(m, 3, deep=True), (VisualPrompt, "__init__", 3)),
    "lora": ("timm", lambda m: baselines.lora_encoder(m), (FusedLora, "__init__", 3)),
    "lora, PEFT": ("bert", lambda m: baselines.lora_encoder(m), (nn.Module, "requires_grad_", 1)),
    "head": ("timm", lambda m: train_head(m.half()), (nn.Linear, "requires_grad_", 1)),
}


@pytest.mark.parametrize("case", HALFWAY)
def test_a_failure_halfway_is_undone(case: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family, change, at = HALFWAY[case]
    model = build(family)
    if case == "head":
        model.half()
    failing(monkeypatch, *at)
    assert_unchanged(model, change, "on purpose")


def test_an_adapter_that_does_not_fit_leaves_the_model_bare(tmp_path: Path) -> None:
    save_adapter(train_head(attach(build("timm"), CONFIG)), tmp_path)
    other = build("timm")
    other.reset_classifier(17)
    assert_unchanged(other, lambda m: load_adapter(m, tmp_path), "instead of")


def test_a_failing_detach_leaves_the_model_adapted(monkeypatch: pytest.MonkeyPatch) -> None:
    model = adapted("timm")
    failing(monkeypatch, TimmZeroInit, "uninstall", 2)
    assert_unchanged(model, detach, "on purpose")


@pytest.mark.parametrize("family", ["llama-gqa", "timm", "bert"])
def test_adapted_and_used_inside_inference_mode(family: str, tmp_path: Path) -> None:
    """A server in inference mode: the same outputs, cached prompts, and training afterwards."""
    trained, batch = adapted(family), inputs(family)
    if family != "llama-gqa":
        train_head(trained)
    save_adapter(trained, tmp_path)
    with torch.inference_mode():
        expected = output(trained, batch)
        served = load_adapter(build(family), tmp_path)
        with frozen_prompts(served):
            assert all(torch.equal(output(served, batch), expected) for _ in range(2))
            for layer in zero_init_layers(served):
                layer.gate.mul_(-1.0)
            changed = output(served, batch)
        assert torch.equal(output(served, batch), changed)
        assert not torch.allclose(changed, expected)
    with pytest.raises(ZiaError, match=r"made inside torch\.inference_mode"):
        output(served, batch)
    with torch.no_grad():
        assert torch.equal(output(served, batch), changed)
    outside = build(family)
    with torch.inference_mode():
        load_adapter(outside, tmp_path)
    output(outside, batch).square().mean().backward()
    assert all(layer.prompt.grad.abs().sum() > 0 for layer in zero_init_layers(outside))


def test_weights_that_are_elsewhere_are_refused(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path / "adapter")
    build("llama-gqa").save_pretrained(tmp_path / "model")
    parts = ("embed_tokens", "layers.0", "layers.1", "layers.2", "norm", "rotary_emb")
    places = {f"model.{part}": "cpu" for part in parts}
    places |= {"lm_head": "cpu", "model.layers.2": "disk"}
    offload = {"device_map": places, "offload_folder": tmp_path / "away"}
    model = LlamaForCausalLM.from_pretrained(tmp_path / "model", **offload)
    for change in (
        lambda: attach(model, CONFIG),
        lambda: load_adapter(model, tmp_path / "adapter"),
        lambda: load_adapter(model, tmp_path / "adapter", other_backbone=True),
    ):
        with pytest.raises(ZiaError, match=r"layers\.2\.self_attn.* is on meta; load"):
            change()
        assert not zero_init_layers(model)
        assert all(parameter.requires_grad for parameter in model.parameters())


def test_weights_offloaded_behind_an_adapter(tmp_path: Path) -> None:
    from accelerate import cpu_offload
    from accelerate.hooks import remove_hook_from_submodules

    model, batch = adapted("llama-gqa"), inputs("llama-gqa")
    with torch.no_grad():
        expected = output(model, batch)
        cpu_offload(model, execution_device=torch.device("cpu"))
        assert torch.equal(output(model, batch), expected)
    with pytest.raises(ZiaError, match="take accelerate's hooks off first"):
        save_adapter(model, tmp_path)
    assert not any(tmp_path.iterdir())
    remove_hook_from_submodules(model)
    save_adapter(model, tmp_path)
    with torch.no_grad():
        assert torch.equal(output(load_adapter(build("llama-gqa"), tmp_path), batch), expected)


def test_a_timm_attention_whose_forward_was_replaced_is_refused() -> None:
    model = build("timm")
    model.blocks[1].attn.forward = model.blocks[1].attn.forward
    assert_unchanged(model, lambda m: attach(m, CONFIG), "was replaced")
