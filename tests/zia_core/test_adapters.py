"""Adapter files: round trip, and refusals that name both sides."""

import resource
import signal
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.zia_core.backbones import adapted, build, inputs, open_gates, output
from zia_core import ZeroInitConfig, ZiaError, attach, load_adapter, save_adapter
from zia_core.adapters import packed, unpacked
from zia_core.baselines import bitfit
from zia_core.head import head_parameters, train_head, trained_head
from zia_core.identity import backbone_identity
from zia_core.trained_weights import load_trained, pack_trained

SAVED = {"adapter.safetensors", "adapter_config.json", "README.md"}


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "timm"])
def test_round_trip_onto_a_bare_backbone(family: str, tmp_path: Path) -> None:
    model = adapted(family)
    path = save_adapter(model, tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == SAVED
    loaded = load_adapter(build(family), tmp_path)
    assert torch.equal(output(loaded, inputs(family)), output(model, inputs(family)))
    assert len(load_file(path)) == 4 + (0 if family == "llama-gqa" else 2)  # a head, as it is
    trained = {name for name, p in loaded.named_parameters() if p.requires_grad}
    assert trained == {name for name in load_file(path) if ".zero_init." in name}


def test_half_precision_copy_of_the_same_backbone(tmp_path: Path) -> None:
    """A checkpoint in bfloat16 is one backbone, whether loaded in bfloat16 or float32."""
    save_adapter(adapted("llama-gqa").bfloat16().float(), tmp_path)
    load_adapter(build("llama-gqa").bfloat16(), tmp_path)


def test_other_weights_are_refused(tmp_path: Path) -> None:
    save_adapter(adapted("llama-gqa"), tmp_path)
    with pytest.raises(
        ZiaError, match=r"trained on LlamaForCausalLM.*different: weights.*other_backbone=True"
    ):
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
    with pytest.raises(ZiaError, match=r"zero_init\.prompt: nothing instead of \(5, 48\)"):
        load_adapter(build("llama-gqa"), path)


def test_tensors_of_integers_are_no_adapter(tmp_path: Path) -> None:
    path = save_adapter(adapted("llama-gqa"), tmp_path)
    about, tensors = unpacked(path)
    path.write_bytes(packed({name: t.to(torch.int32) for name, t in tensors.items()}, about))
    with pytest.raises(ZiaError, match=r"is damaged: .*zero_init\.gate is torch\.int32"):
        load_adapter(build("llama-gqa"), path)


def test_a_config_of_another_type_is_a_sentence() -> None:
    config: Any = {"num_layers": 2}
    with pytest.raises(ZiaError, match="attach takes a ZeroInitConfig, not a dict"):
        attach(build("llama-gqa"), config)


def test_a_full_disk_leaves_the_previous_adapter(tmp_path: Path) -> None:
    path = save_adapter(adapted("llama-gqa"), tmp_path)
    before = path.read_bytes()
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    try:
        with pytest.raises(ZiaError, match=r"cannot write .*adapter\.safetensors"):
            save_adapter(open_gates(adapted("llama-gqa"), seed=2), tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limit)
        signal.signal(signal.SIGXFSZ, handler)
    assert {p.name for p in tmp_path.iterdir()} == SAVED
    assert path.read_bytes() == before


def test_a_model_without_adapter_cannot_be_saved(tmp_path: Path) -> None:
    with pytest.raises(ZiaError, match=r"call attach\(\) first"):
        save_adapter(build("llama-gqa"), tmp_path)
    assert list(tmp_path.iterdir()) == []


def _classifier(seed: int) -> torch.nn.Module:
    model = build("timm")
    torch.manual_seed(seed)
    model.get_classifier().reset_parameters()  # a head is new with every task
    return model


def test_a_trained_head_is_saved_with_the_adapter_and_is_not_the_backbone(tmp_path: Path) -> None:
    model = train_head(attach(_classifier(1), ZeroInitConfig(prompt_length=3, num_layers=2)))
    open_gates(model)
    with torch.no_grad():
        model.get_classifier().weight.add_(1.0)
    save_adapter(model, tmp_path)
    loaded = load_adapter(_classifier(2), tmp_path)
    assert torch.equal(output(loaded, inputs("timm")), output(model, inputs("timm")))
    assert trained_head(loaded).keys() == head_parameters(loaded).keys()
    loaded = load_adapter(
        train_head(attach(_classifier(3), ZeroInitConfig(prompt_length=3, num_layers=2))), tmp_path
    )
    assert torch.equal(output(loaded, inputs("timm")), output(model, inputs("timm")))


def test_a_head_for_another_task_is_refused(tmp_path: Path) -> None:
    model = train_head(attach(_classifier(1), ZeroInitConfig(prompt_length=3, num_layers=2)))
    save_adapter(model, tmp_path)
    other = _classifier(1)
    other.reset_classifier(17)
    with pytest.raises(ZiaError, match=r"head\.bias: \(\d+,\) instead of \(17,\)"):
        load_adapter(other, tmp_path)


@pytest.mark.parametrize("zero_init", [True, False])
def test_what_any_method_trained_comes_back(zero_init: bool, tmp_path: Path) -> None:
    def prepared(seed: int) -> torch.nn.Module:
        model = _classifier(seed)
        if zero_init:
            return train_head(attach(model, ZeroInitConfig(prompt_length=3, num_layers=2)))
        return bitfit(model)

    identity = backbone_identity(_classifier(0))
    model = prepared(1)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.3)
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(pack_trained(model, "some", identity))
    loaded = prepared(2)
    load_trained(loaded, path, identity)
    assert torch.equal(output(loaded, inputs("timm")), output(model, inputs("timm")))
    with pytest.raises(ZiaError, match="different: fingerprint"):
        load_trained(prepared(2), path, identity | {"fingerprint": "0"})
    frozen = build("timm").requires_grad_(False)
    assert pack_trained(frozen, "frozen", identity) == b""
    with pytest.raises(ZiaError, match="does not hold the parameters of this run"):
        load_trained(frozen, path, identity)
