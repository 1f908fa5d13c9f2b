"""AdaptionPrompt adapters to and from PEFT itself."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import AdaptionPromptConfig, LoraConfig, PeftModel, get_peft_model
from transformers import LlamaConfig, LlamaForCausalLM

from tests.zia_core.backbones import LANGUAGE, build, inputs, open_gates
from zia_core import ZeroInitConfig, ZiaError, attach, load_adapter, save_adapter, zero_init_layers
from zia_core.convert import from_peft, to_peft

SCALAR = ZeroInitConfig(5, 2, gate_per="layer", gate_activation="identity")


def logits(model: Any) -> torch.Tensor:
    model.eval()
    found: torch.Tensor = model(**inputs("llama-gqa", length=4)).logits
    return found.detach()


def theirs(family: str, folder: Path) -> torch.Tensor:
    """Save an open-gated AdaptionPrompt; return its logits."""
    config = AdaptionPromptConfig(adapter_len=5, adapter_layers=2, task_type="CAUSAL_LM")
    model: Any = get_peft_model(build(family), config)
    gates = [m.adaption_gate for m in model.modules() if hasattr(m, "adaption_gate")]
    for gate, value in zip(gates, (0.7, -0.9), strict=True):
        gate.data.fill_(value)
    model.save_pretrained(folder)
    return logits(model)


@pytest.mark.parametrize("family", ["llama-mha", "llama-gqa", "mistral"])
def test_from_peft(family: str, tmp_path: Path) -> None:
    expected = theirs(family, tmp_path / "peft")
    ours: Any = build(family)
    assert from_peft(ours, tmp_path / "peft") == 0.0
    torch.testing.assert_close(logits(ours), expected, rtol=1e-5, atol=1e-5)
    save_adapter(ours, tmp_path / "zia")
    again = load_adapter(build(family), tmp_path / "zia")
    assert torch.equal(logits(again), logits(ours))


@pytest.mark.parametrize("activation", ["identity", "tanh"])
@pytest.mark.parametrize("family", ["llama-gqa", "mistral"])
def test_to_peft(family: str, activation: Any, tmp_path: Path) -> None:
    ours = open_gates(
        attach(build(family), ZeroInitConfig(5, 2, gate_per="layer", gate_activation=activation))
    )
    error = to_peft(ours, tmp_path)
    assert error == 0.0 if activation == "identity" else 0.0 < error < 1e-6  # tanh(g) is rounded
    read = PeftModel.from_pretrained(build(family), tmp_path)
    torch.testing.assert_close(logits(read), logits(ours), rtol=1e-5, atol=1e-5)
    assert not torch.allclose(logits(read), logits(build(family)), atol=1e-2)


def test_equal_gates_of_all_heads_are_one(tmp_path: Path) -> None:
    ours = attach(build("llama-gqa"), ZeroInitConfig(5, 2))
    for layer in zero_init_layers(ours):
        layer.gate.data.fill_(0.4)
    to_peft(ours, tmp_path)
    read = PeftModel.from_pretrained(build("llama-gqa"), tmp_path)
    torch.testing.assert_close(logits(read), logits(ours), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("family", "choices", "says"),
    [
        ("llama-gqa", {}, "one gate for all heads of a layer"),
        ("llama-gqa", {"softmax": "joint"}, "cannot express .* softmax='joint'"),
        ("llama-gqa", {"prompt_source": "key_value", "gate_per": "layer"}, "'key_value'"),
        ("qwen3", {"gate_per": "layer"}, "LLaMA and Mistral only, not for Qwen3Attention"),
        ("llama-head-dim", {"gate_per": "layer"}, "adds the bias twice"),
    ],
)
def test_what_peft_cannot_express_is_refused(
    family: str, choices: Any, says: str, tmp_path: Path
) -> None:
    ours = open_gates(attach(build(family), ZeroInitConfig(5, 2, **choices)))
    with pytest.raises(ZiaError, match=says):
        to_peft(ours, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_model_that_peft_cannot_run_is_refused(tmp_path: Path) -> None:
    sizes = LlamaConfig(**LANGUAGE, num_key_value_heads=2, head_dim=20)
    ours = attach(LlamaForCausalLM(sizes), SCALAR)
    with pytest.raises(ZiaError, match="cannot run a model whose head_dim"):
        to_peft(ours, tmp_path)


def test_other_methods_and_models_are_refused(tmp_path: Path) -> None:
    lora: Any = get_peft_model(build("llama-gqa"), LoraConfig(task_type="CAUSAL_LM"))
    lora.save_pretrained(tmp_path / "lora")
    theirs("llama-mha", tmp_path / "peft")
    small = LlamaForCausalLM(LlamaConfig(**{**LANGUAGE, "num_hidden_layers": 2}))
    with pytest.raises(ZiaError, match="is of LORA; only ADAPTION_PROMPT"):
        from_peft(small, tmp_path / "lora")
    with pytest.raises(ZiaError, match="topmost 2 of this model's 2 layers"):
        from_peft(small, tmp_path / "peft")
    with pytest.raises(ZiaError, match="give the folder that PEFT wrote"):
        from_peft(small, tmp_path)
    (tmp_path / "peft/adapter_config.json").write_text(json.dumps([]))
    with pytest.raises(ZiaError, match="is not a PEFT config"):
        from_peft(small, tmp_path / "peft")
    assert not zero_init_layers(small)
