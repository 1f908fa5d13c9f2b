"""An adapter file is accepted only on a backbone with which it computes the same function."""

import itertools
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from safetensors import safe_open
from torch import nn
from transformers import (
    BertConfig,
    BertForMaskedLM,
    BertForSequenceClassification,
    BertModel,
    LlamaForCausalLM,
)

from tests.zia_core.backbones import ENCODER, adapted, build, inputs, open_gates, output
from zia_core import (
    ZeroInitConfig,
    ZiaError,
    adapter_state_dict,
    attach,
    load_adapter,
    save_adapter,
    train_head,
)
from zia_core.adapters import about_adapter, packed, unpacked
from zia_core.head import trained_head
from zia_core.identity import backbone_identity
from zia_core.trained_weights import pack_trained

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)
PRECISIONS = (torch.float32, torch.bfloat16, torch.float16)


@pytest.mark.parametrize("family", ["llama-gqa", "bert", "timm"])
def test_one_changed_weight_anywhere_is_another_backbone(family: str, tmp_path: Path) -> None:
    """The smallest change of one value of any parameter that is not in the file."""
    held = adapter_state_dict(adapted(family)).keys()
    save_adapter(adapted(family), tmp_path)
    model = build(family)
    for name, parameter in model.named_parameters():
        if name in held:
            continue
        values = parameter.data.view(-1)
        place = 2 * len(values) // 3 + (len(values) > 200)
        before = values[place].clone()
        values[place] = torch.nextafter(before, before + 1)
        with pytest.raises(ZiaError, match=r"different: weights\); load the backbone"):
            load_adapter(model, tmp_path)
        values[place] = before
    load_adapter(model, tmp_path)


@pytest.mark.parametrize("checkpoint", PRECISIONS)
def test_copies_of_one_checkpoint_in_other_precisions(
    checkpoint: torch.dtype, tmp_path: Path
) -> None:
    for saved, loaded in itertools.product(PRECISIONS, PRECISIONS):
        source, target = (build("llama-gqa").to(checkpoint).to(d) for d in (saved, loaded))
        save_adapter(attach(source, CONFIG), tmp_path)
        common = checkpoint != torch.float32 or saved == loaded or torch.float32 in (saved, loaded)
        if common:
            load_adapter(target, tmp_path)
        else:  # two roundings of the same float32 weights
            with pytest.raises(ZiaError, match=r"other_backbone=True to have it on this one"):
                load_adapter(target, tmp_path)
        with torch.no_grad():
            other = build("llama-gqa").to(checkpoint).to(loaded)
            other.model.layers[0].mlp.up_proj.weight[1, 3] *= 1.02
        with pytest.raises(ZiaError, match="different: weights"):
            load_adapter(other, tmp_path)


def checkpoint(folder: Path, pooler: bool) -> Path:
    torch.manual_seed(0)
    config = BertConfig(**ENCODER, num_labels=5)
    (BertModel(config) if pooler else BertForMaskedLM(config)).save_pretrained(folder)
    return folder


def classifier(folder: Path, seed: int) -> Any:
    torch.manual_seed(seed)  # of all that the checkpoint does not bring
    return BertForSequenceClassification.from_pretrained(folder, num_labels=5).eval()


def move(model: nn.Module) -> nn.Module:
    """Change parameters, as training would."""
    torch.manual_seed(9)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(torch.randn_like(parameter))
    return model


@pytest.mark.parametrize("half", [False, True])
def test_a_new_pooler_is_trained_and_comes_back(half: bool, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", pooler=False)
    model = classifier(folder, 1)
    model = move(train_head(attach(model.bfloat16() if half else model, CONFIG)))
    names = {
        f"{part}.{kind}"
        for part in ("classifier", "bert.pooler.dense")
        for kind in ("weight", "bias")
    }
    assert trained_head(model).keys() == names
    assert all(parameter.dtype == torch.float32 for parameter in trained_head(model).values())
    save_adapter(model, tmp_path)
    bare = classifier(folder, 2)
    loaded = load_adapter(bare.bfloat16() if half else bare, tmp_path)
    assert trained_head(loaded).keys() == names
    assert torch.equal(output(loaded, inputs("bert")), output(model, inputs("bert")))


def test_a_pooler_of_the_checkpoint_is_a_part_of_the_backbone(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "model", pooler=True)
    model = train_head(attach(classifier(folder, 1), CONFIG))
    assert trained_head(model).keys() == {"classifier.weight", "classifier.bias"}
    assert not any("pooler" in name for name in adapter_state_dict(model))
    save_adapter(move(model), tmp_path)
    loaded = load_adapter(classifier(folder, 2), tmp_path)
    assert torch.equal(output(loaded, inputs("bert")), output(model, inputs("bert")))
    other = classifier(checkpoint(tmp_path / "without", pooler=False), 2)
    with pytest.raises(ZiaError, match="different: weights"):
        load_adapter(other, tmp_path)


def vit(seed: int, name: str = "vit_tiny_patch16_224", **options: Any) -> nn.Module:
    torch.manual_seed(seed)
    return timm.create_model(
        name,
        img_size=16,
        patch_size=4,
        embed_dim=48,
        depth=3,
        num_heads=4,
        num_classes=5,
        **options,
    ).eval()


NEW_PARTS: dict[str, tuple[Callable[[int], nn.Module], tuple[str, ...]]] = {
    "attention pool": (
        lambda seed: vit(seed, global_pool="map", class_token=False),
        ("head.", "attn_pool."),
    ),
    "norm behind the pool": (lambda seed: vit(seed, global_pool="avg"), ("head.", "fc_norm.")),
    "distilled": (
        lambda seed: vit(seed, "deit_tiny_distilled_patch16_224"),
        ("head.", "head_dist."),
    ),
}


@pytest.mark.parametrize("case", NEW_PARTS)
@pytest.mark.parametrize("with_head", [False, True])
def test_parts_of_timm_that_may_be_new_are_in_the_file(
    with_head: bool, case: str, tmp_path: Path
) -> None:
    """Trained or not, since there is nothing to compare them with."""
    make, new = NEW_PARTS[case]

    def fresh(seed: int) -> nn.Module:
        model, body = make(seed), make(0).state_dict()
        model.load_state_dict(
            {k: v for k, v in body.items() if not k.startswith(new)}, strict=False
        )
        return model

    model = open_gates(attach(fresh(1), CONFIG))
    save_adapter(move(train_head(model)) if with_head else model, tmp_path)
    loaded = load_adapter(fresh(2), tmp_path)
    assert torch.equal(output(loaded, inputs("timm")), output(model, inputs("timm")))
    flags = [{n: p.requires_grad for n, p in m.named_parameters()} for m in (model, loaded)]
    assert flags[0] == flags[1]
    if case == "distilled":
        assert any(flag for name, flag in flags[0].items() if "head_dist" in name) == with_head


def test_rows_that_were_added_to_an_embedding_are_no_part_of_it(tmp_path: Path) -> None:
    build("llama-gqa").save_pretrained(tmp_path / "model")

    def words(rows: int, seed: int) -> Any:
        torch.manual_seed(seed)
        model = LlamaForCausalLM.from_pretrained(tmp_path / "model").eval()
        model.resize_token_embeddings(rows)
        return model

    plain = output(adapted("llama-gqa"), inputs("llama-gqa"))
    for saved, loaded in itertools.product((61, 62, 64), repeat=2):
        save_adapter(open_gates(attach(words(saved, 1), CONFIG)), tmp_path)
        load_adapter(words(loaded, 2), tmp_path)
        for name in ("embed_tokens", "lm_head"):
            other = words(loaded, 2)
            with torch.no_grad():
                (other.model.embed_tokens if name == "embed_tokens" else other.lm_head).weight[
                    60
                ] += 1
            with pytest.raises(ZiaError, match="different: weights"):
                load_adapter(other, tmp_path)
    assert plain.shape[-1] == 61
    # If the checkpoint is unknown, all rows count as its own.
    save_adapter(attach(build("llama-gqa"), CONFIG), tmp_path)
    load_adapter(words(64, 1), tmp_path)
    unknown = words(64, 1)
    unknown.config._name_or_path = str(tmp_path / "gone")
    save_adapter(attach(unknown, CONFIG), tmp_path)
    with pytest.raises(ZiaError, match="different: rows, weights"):
        load_adapter(build("llama-gqa"), tmp_path)


FINGERPRINTS = {  # of weights filled as below, by the first rule
    "llama-gqa": "9a5f2506120abe2f",
    "bert": "1ce3fe8cd1978219",
    "timm": "23aa79f90ded45b4",
}


def filled(family: str) -> nn.Module:
    model = build(family)
    with torch.no_grad():
        for i, parameter in enumerate(model.parameters()):
            values = (torch.arange(parameter.numel()) * (i + 7)) % 253 / 64 - 2
            parameter.copy_(values.view(parameter.shape))
    return model


@pytest.mark.parametrize("family", FINGERPRINTS)
def test_files_with_the_first_fingerprint_still_load(family: str, tmp_path: Path) -> None:
    identity = backbone_identity(filled(family))
    assert identity["fingerprint"] == FINGERPRINTS[family]
    model = open_gates(attach(filled(family), CONFIG))
    if family != "llama-gqa":
        train_head(model)
    tensors = {n: p for n, p in model.named_parameters() if p.requires_grad}
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(packed(tensors, about_adapter(model, identity)))
    loaded = load_adapter(filled(family), path)
    assert torch.equal(output(loaded, inputs(family)), output(model, inputs(family)))
    other = build(family)
    with pytest.raises(ZiaError, match=r"different: fingerprint.*other_backbone=True"):
        load_adapter(other, path)
    load_adapter(other, path, other_backbone=True)


def test_the_files_of_runs_are_of_the_first_kind(tmp_path: Path) -> None:
    """Their hashes are in published results; a run also hashes its weight files."""
    identity = backbone_identity(filled("timm"))
    model = train_head(attach(filled("timm"), CONFIG))
    path = tmp_path / "adapter.safetensors"
    path.write_bytes(pack_trained(model, "zero-init", identity))
    about, tensors = unpacked(path)
    assert about.keys() == {"method", "config", "backbone"}
    assert about["backbone"] == identity
    assert tensors.keys() == {n for n, p in model.named_parameters() if p.requires_grad}
    load_adapter(filled("timm"), path)


def test_saving_refuses_what_loading_would(tmp_path: Path) -> None:
    model = adapted("llama-gqa")
    model.model.layers[0].mlp.up_proj.requires_grad_(True)
    with pytest.raises(ZiaError, match=r"layers\.0\.mlp\.up_proj\.weight is trained"):
        save_adapter(model, tmp_path)
    assert not any(tmp_path.iterdir())


def test_what_is_trained_beside_the_layers_is_in_the_file(tmp_path: Path) -> None:
    model = adapted("llama-gqa")
    model.model.norm.requires_grad_(True)
    save_adapter(move(model), tmp_path)
    loaded = load_adapter(build("llama-gqa"), tmp_path)
    assert loaded.model.norm.weight.requires_grad
    assert torch.equal(output(loaded, inputs("llama-gqa")), output(model, inputs("llama-gqa")))


def test_the_header_says_what_is_compared(tmp_path: Path) -> None:
    with safe_open(save_adapter(adapted("llama-gqa"), tmp_path), "pt") as file:
        backbone = json.loads(file.metadata()["zia"])["backbone"]
    hashes = backbone.pop("weights")
    assert hashes.pop("in") == ["float32"]
    assert {kind: len(each) for kind, each in hashes.items()} == dict.fromkeys(
        ("float32", "bfloat16", "float16"), 32
    )
    assert backbone.pop("rows") == 61
    assert backbone == {
        "class": "LlamaForCausalLM",
        "width": 48,
        "layers": 3,
        "heads": 4,
        "kv_heads": 2,
        "head_dim": 12,
    }
