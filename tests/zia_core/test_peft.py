"""Agreement with PEFT's AdaptionPrompt: one ungated-by-tanh scalar per layer."""

import pytest
import torch
from peft import AdaptionPromptConfig, get_peft_model

from tests.zia_core.backbones import build, inputs
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
