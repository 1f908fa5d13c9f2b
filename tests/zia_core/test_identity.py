"""At zero gates, and when detached, the adapted model is bitwise the backbone."""

import pytest
import torch

from tests.zia_core.backbones import BUILD, adapted, build, inputs, is_vision, open_gates, output
from zia_core import ZeroInitConfig, ZiaError, attach, detach, zero_init_layers

CONFIG = ZeroInitConfig(prompt_length=5, num_layers=2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=["float32", "bfloat16"])
@pytest.mark.parametrize("family", BUILD)
def test_zero_gates_change_no_bit(family: str, dtype: torch.dtype) -> None:
    for padded in (False,) if is_vision(family) else (False, True):
        model, batch = build(family).to(dtype), inputs(family, padded=padded)
        before = output(model, batch)
        attach(model, CONFIG)
        assert torch.equal(output(model, batch), before)
        open_gates(model)
        assert not torch.equal(output(model, batch), before)
        detach(model)
        assert torch.equal(output(model, batch), before)


@pytest.mark.parametrize("family", ["llama-gqa", "timm"])
def test_only_prompts_and_gates_train(family: str) -> None:
    model = attach(build(family), CONFIG)
    trainable = {name for name, p in model.named_parameters() if p.requires_grad}
    assert len(trainable) == 4
    assert all(name.endswith((".zero_init.prompt", ".zero_init.gate")) for name in trainable)
    assert [layer.prompt.std().item() for layer in zero_init_layers(model)] == pytest.approx(
        [1.0, 1.0], abs=0.15
    )


def test_topmost_layers_are_adapted() -> None:
    model = attach(build("llama-gqa"), CONFIG)
    names = [n for n, _ in model.named_parameters() if n.endswith("gate")]
    assert names == [f"model.layers.{i}.self_attn.zero_init.gate" for i in (1, 2)]


def test_detach_restores_trainable_flags() -> None:
    model = build("llama-gqa")
    model.model.embed_tokens.weight.requires_grad_(False)
    flags = {name: p.requires_grad for name, p in model.named_parameters()}
    detach(attach(model, CONFIG))
    assert {name: p.requires_grad for name, p in model.named_parameters()} == flags
    assert "generate" not in vars(model)


@pytest.mark.parametrize("family", ["llama-gqa", "timm"])
def test_attaching_twice_is_refused(family: str) -> None:
    with pytest.raises(ZiaError, match=r"detach\(model\) first"):
        attach(adapted(family), CONFIG)


def test_more_layers_than_there_are() -> None:
    with pytest.raises(ZiaError, match="num_layers=4 but LlamaForCausalLM has 3"):
        attach(build("llama-gqa"), ZeroInitConfig(num_layers=4))


def test_unsupported_models_say_what_is_missing() -> None:
    from transformers import CLIPConfig, CLIPModel, FalconConfig, FalconModel

    falcon = FalconModel(
        FalconConfig(num_hidden_layers=2, num_attention_heads=2, hidden_size=8, vocab_size=11)
    )
    with pytest.raises(ZiaError, match=r"not among the tested families .* hook"):
        attach(falcon, CONFIG)
    with pytest.raises(ZiaError, match="no attention layer was found"):
        attach(torch.nn.Linear(2, 2), CONFIG)
    tower = {"num_hidden_layers": 2, "hidden_size": 16, "num_attention_heads": 2}
    clip = CLIPModel(CLIPConfig(text_config=tower, vision_config=tower))
    with pytest.raises(ZiaError, match=r"several towers .*text_model.*vision_model"):
        attach(clip, CONFIG)
    attach(clip.vision_model, CONFIG)
    assert len(zero_init_layers(clip)) == 2


@pytest.mark.parametrize(
    ("setting", "value"),
    [("softmax", "both"), ("prompt_length", 0), ("num_layers", 1.5), ("gate_init", float("nan"))],
)
def test_wrong_settings_are_named(setting: str, value: object) -> None:
    with pytest.raises(ZiaError, match=f"ZeroInitConfig.{setting} must be"):
        ZeroInitConfig(**{setting: value})


def test_unknown_setting_in_a_file_is_refused() -> None:
    with pytest.raises(ZiaError, match="gate_shape"):
        ZeroInitConfig.from_json({"gate_shape": "head"})
    config = ZeroInitConfig(num_layers=3, gate_per="layer")
    assert ZeroInitConfig.from_json(config.to_json()) == config
