"""Adapter files: round trip, and every refusal with both sides named."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from tests.zia_core.backbones import adapted, build, inputs, output
from zia_core import ZeroInitConfig, ZiaError, attach, load_adapter, save_adapter


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "timm"])
def test_round_trip_onto_a_bare_backbone(family: str, tmp_path: Path) -> None:
    model = adapted(family)
    save_adapter(model, tmp_path)
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "adapter.safetensors",
        "adapter_config.json",
    ]
    loaded = load_adapter(build(family), tmp_path)
    assert torch.equal(output(loaded, inputs(family)), output(model, inputs(family)))
    assert len(load_file(tmp_path / "adapter.safetensors")) == 4


def test_half_precision_copy_of_the_same_backbone(tmp_path: Path) -> None:
    """A checkpoint in bfloat16 is one backbone, whether loaded in bfloat16 or float32."""
    save_adapter(adapted("llama-gqa").bfloat16().float(), tmp_path)
    load_adapter(build("llama-gqa").bfloat16(), tmp_path)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    with pytest.raises(ZiaError, match=r"trained on LlamaForCausalLM.*different: fingerprint"):
        load_adapter(build("llama-gqa", seed=4), tmp_path)
    load_adapter(build("llama-gqa", seed=4), tmp_path, other_backbone=True)


def test_other_architecture_is_refused(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    with pytest.raises(ZiaError, match=r"LlamaForCausalLM.*this model is Qwen3ForCausalLM"):
        load_adapter(build("qwen3"), tmp_path)
    with pytest.raises(ZiaError, match="kv_heads"):
        load_adapter(build("llama-mha"), tmp_path, other_backbone=True)


def test_other_config_is_refused_with_both_sides(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    model = attach(build("llama-gqa"), ZeroInitConfig(prompt_length=7, num_layers=2))
    with pytest.raises(ZiaError, match="prompt_length=5 where the model has 7"):
        load_adapter(model, tmp_path)
    model = attach(build("llama-gqa"), ZeroInitConfig(prompt_length=5, num_layers=3))
    with pytest.raises(ZiaError, match="num_layers=2 where the model has 3"):
        load_adapter(model, tmp_path)


@pytest.mark.parametrize("name", ["adapter.safetensors", "adapter_config.json"])
def test_missing_and_damaged_files(name: str, tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    whole = (tmp_path / name).read_bytes()
    (tmp_path / name).write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ZiaError, match=f"{name} is damaged"):
        load_adapter(build("llama-gqa"), tmp_path)
    (tmp_path / name).unlink()
    with pytest.raises(ZiaError, match=f"{name} is missing"):
        load_adapter(build("llama-gqa"), tmp_path)


def test_mixed_up_files(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    path = tmp_path / "adapter_config.json"
    record = json.loads(path.read_text())
    record["config"]["prompt_length"] = 6
    path.write_text(json.dumps(record))
    with pytest.raises(ZiaError, match="not those that its adapter_config"):
        load_adapter(build("llama-gqa"), tmp_path)


def test_a_model_without_adapter_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"call attach\(\) first"):
        save_adapter(build("llama-gqa"), tmp_path)
    assert list(tmp_path.iterdir()) == []
