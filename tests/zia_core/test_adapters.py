"""Adapter files: round trip, and every refusal with both sides named."""

import resource
import signal
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from zia_core import ZeroInitConfig, ZiaError, attach, load_adapter, save_adapter
from zia_core.adapters import packed, unpacked


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "timm"])
def test_round_trip_onto_a_bare_backbone(family: str, tmp_path: Path) -> None:
    model = adapted(family)
    path = save_adapter(model, tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["adapter.safetensors"]
    loaded = load_adapter(build(family), tmp_path)
    assert torch.equal(output(loaded, inputs(family)), output(model, inputs(family)))
    assert len(load_file(path)) == 4


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


def test_missing_and_damaged_files(tmp_path: Path) -> None:
    path = save_adapter(adapted("llama-gqa"), tmp_path)
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(ZiaError, match=r"adapter.safetensors is damaged"):
        load_adapter(build("llama-gqa"), tmp_path)
    save_file({"a": torch.zeros(1)}, path)
    with pytest.raises(ZiaError, match="is not an adapter"):
        load_adapter(build("llama-gqa"), tmp_path)
    path.unlink()
    with pytest.raises(ZiaError, match="There is no adapter at"):
        load_adapter(build("llama-gqa"), tmp_path)


def test_missing_tensors(tmp_path: Path) -> None:
    path = save_adapter(adapted("llama-gqa"), tmp_path)
    about, tensors = unpacked(path)
    tensors.popitem()
    path.write_bytes(packed(tensors, about))
    with pytest.raises(ZiaError, match="lacks tensors"):
        load_adapter(build("llama-gqa"), path)


def test_a_full_disk_leaves_the_previous_adapter(tmp_path: Path) -> None:
    path = save_adapter(adapted("llama-gqa"), tmp_path)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(ZiaError, match=r"Cannot write .*adapter\.safetensors"):
            save_adapter(open_gates(adapted("llama-gqa"), seed=2), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert [p.name for p in tmp_path.iterdir()] == ["adapter.safetensors"]
    assert path.read_bytes() == before


def test_a_model_without_adapter_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"call attach\(\) first"):
        save_adapter(build("llama-gqa"), tmp_path)
    assert list(tmp_path.iterdir()) == []
