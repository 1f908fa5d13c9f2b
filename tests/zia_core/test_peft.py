"""Agreement with PEFT's AdaptionPrompt: one ungated-by-tanh scalar per layer."""

import pytest
import torch
from peft import AdaptionPromptConfig, LoraConfig, get_peft_model

from tests.zia_core.backbones import build, inputs, open_gates
from zia_core import ZeroInitConfig, attach, zero_init_layers


@pytest.mark.parametrize("family", ["llama-mha", "llama-gqa", "mistral"])
def test_same_function_and_gradients(family: str) -> None:
    ours = attach(
        build(family).double(), ZeroInitConfig(5, 2, gate_per="layer", gate_activation="identity")
    )
    theirs = get_peft_model(
        build(family).double(),
        AdaptionPromptConfig(adapter_len=5, adapter_layers=2, task_type="CAUSAL_LM"),
    )
    peft_layers = [m for m in theirs.modules() if hasattr(m, "adaption_gate")]
    assert len(peft_layers) == 2
    for i, (layer, other) in enumerate(zip(zero_init_layers(ours), peft_layers, strict=True)):
        other.double()
        layer.gate.data.fill_(0.7 - 1.6 * i)
        other.adaption_gate.data.fill_(0.7 - 1.6 * i)
        other.adaption_prompt.data.copy_(layer.prompt[None])
    batch = inputs(family, length=4)  # within Mistral's window
    logits, expected = ours(**batch).logits, theirs(**batch).logits
    torch.testing.assert_close(logits, expected, rtol=1e-6, atol=1e-6)
    logits.square().sum().backward()
    expected.square().sum().backward()
    for layer, other in zip(zero_init_layers(ours), peft_layers, strict=True):
        torch.testing.assert_close(
            layer.prompt.grad, other.adaption_prompt.grad[0], rtol=1e-5, atol=1e-5
        )
        torch.testing.assert_close(layer.gate.grad, other.adaption_gate.grad, rtol=1e-5, atol=1e-5)


@torch.no_grad()
def test_prompts_pass_lora_as_words_do() -> None:
    """Merged into the weights or beside them, in timm's fused projection too."""
    for family, target in (("timm", "qkv"), ("llama-gqa", "k_proj")):
        torch.manual_seed(0)
        config = LoraConfig(target_modules=[target], init_lora_weights=False)
        model = get_peft_model(build(family).double(), config).eval()
        open_gates(attach(model, ZeroInitConfig(3, 2)))
        batch = inputs(family)
        given = batch["pixel_values"].double() if family == "timm" else batch["input_ids"]
        expected = model(given)
        merged = model.merge_and_unload()(given)
        if family != "timm":
            expected, merged = expected.logits, merged.logits
        torch.testing.assert_close(merged, expected, rtol=1e-9, atol=1e-9)
