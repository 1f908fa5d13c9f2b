"""LLaMA as Meta released it is the model that transformers has, and a bad folder is a sentence."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from transformers import LlamaForCausalLM

from experiments.backbones import language_models, meta_llama
from tests.allocations import peak_of
from tests.backbones.meta_format import change, random_llama, write
from zia_core import ZeroInitConfig, ZiaError, attach, zero_init_layers

TOKENS = 48
IDS = torch.arange(40).view(2, 20)


def loaded(folder: Path, tokens: int = TOKENS, dtype: torch.dtype = torch.float32) -> Any:
    return meta_llama.load(folder, dtype, tokens)


@pytest.mark.parametrize("files", [1, 2, 4])
@pytest.mark.parametrize(("kv_heads", "embedding_axis"), [(4, 1), (4, 0)])
def test_logits_are_those_of_transformers(
    tmp_path: Path, files: int, kv_heads: int, embedding_axis: int
) -> None:
    model = random_llama(kv_heads)
    write(model, tmp_path / "llama", files, embedding_axis)
    found = loaded(tmp_path / "llama")
    assert not found.training
    assert torch.equal(found(IDS).logits, model(IDS).logits)
    assert {n: t.tolist() for n, t in found.state_dict().items()} == {
        n: t.tolist() for n, t in model.state_dict().items()
    }


def test_grouped_keys_and_the_sizes_of_later_models(tmp_path: Path) -> None:
    config = random_llama(kv_heads=2).config
    config.rope_parameters["rope_theta"] = 5e5
    config.intermediate_size = 128
    model = LlamaForCausalLM(config).eval()
    # int(8 * 32 / 3) is 85 and 1.2 times that 102, of which the next multiple of 32 is 128.
    sizes = {"rope_theta": 5e5, "ffn_dim_multiplier": 1.2, "vocab_size": TOKENS}
    write(model, tmp_path / "llama", 2, **sizes)
    assert torch.equal(loaded(tmp_path / "llama")(IDS).logits, model(IDS).logits)


def test_weights_are_rounded_like_transformers_(tmp_path: Path) -> None:
    model = random_llama()
    write(model, tmp_path / "llama", 2)
    model.save_pretrained(tmp_path / "hub")
    expected = LlamaForCausalLM.from_pretrained(tmp_path / "hub", dtype=torch.bfloat16)
    found = loaded(tmp_path / "llama", dtype=torch.bfloat16)
    assert found.dtype == torch.bfloat16
    assert torch.equal(found(IDS).logits, expected(IDS).logits)


def test_the_golden_reference(tmp_path: Path, shared_dir: Path) -> None:
    golden = dict(np.load(shared_dir / "golden" / "reference_llama_adapter.npz"))
    sizes = json.loads(str(golden["config"]))
    weights = {
        name.removeprefix("weights/"): torch.from_numpy(value)
        for name, value in golden.items()
        if name.startswith("weights/")
    }
    prompts = weights.pop("adapter_query.weight").view(sizes["adapter_layer"], -1, sizes["dim"])
    gates = {name: weights.pop(name) for name in list(weights) if name.endswith("attention.gate")}
    torch.save(weights, tmp_path / "consolidated.00.pth")
    names = ("dim", "n_layers", "n_heads", "norm_eps", "rope_theta")
    params = {name: sizes[name] for name in names} | {"multiple_of": 16, "vocab_size": -1}
    (tmp_path / "params.json").write_text(json.dumps(params))
    model = loaded(tmp_path, sizes["vocab_size"])
    attach(model, ZeroInitConfig(sizes["adapter_len"], sizes["adapter_layer"]))
    first = sizes["n_layers"] - sizes["adapter_layer"]
    for i, layer in enumerate(zero_init_layers(model)):
        with torch.no_grad():
            layer.prompt.copy_(prompts[i])
            layer.gate.copy_(gates[f"layers.{first + i}.attention.gate"].flatten())
    logits = model(input_ids=torch.from_numpy(golden["examples"])).logits
    expected = torch.from_numpy(golden["logits"])
    assert (logits - expected).abs().max() < 1e-5 * expected.abs().max()


def faulty(folder: Path, fault: str) -> None:
    first, second = (folder / f"consolidated.0{i}.pth" for i in (0, 1))
    params = folder / "params.json"
    if fault == "no params":
        params.unlink()
    elif fault == "params cut":
        params.write_text(params.read_text()[:20])
    elif fault == "no heads":
        params.write_text(params.read_text().replace("n_heads", "heads"))
    elif fault == "heads":
        params.write_text(params.read_text().replace('"n_heads": 4', '"n_heads": 5'))
    elif fault == "scaled":
        params.write_text(params.read_text().replace("{", '{"use_scaled_rope": true, ', 1))
    elif fault == "vocab":
        params.write_text(params.read_text().replace("-1", "32000"))
    elif fault == "layers":
        params.write_text(params.read_text().replace('"n_layers": 2', '"n_layers": 1'))
    elif fault == "missing":
        second.unlink()
    elif fault == "gap":
        second.rename(folder / "consolidated.02.pth")
    elif fault == "extra":
        (folder / "consolidated.02.pth").write_bytes(second.read_bytes())
    elif fault == "cut":
        second.write_bytes(second.read_bytes()[:-900])
    elif fault == "empty":
        first.write_bytes(b"")
    elif fault == "code":
        torch.save({"output.weight": Path}, second)
    elif fault == "list":
        torch.save([torch.zeros(1)], first)
    elif fault == "of another file":
        change(first, layers__0__attention__wq__weight=None)
    elif fault == "lacking":
        change(second, layers__1__attention__wo__weight=None)
    elif fault == "adapter":
        change(second, adapter_query__weight=torch.zeros(2, 2))
    elif fault == "shape":
        change(second, layers__1__feed_forward__w2__weight=torch.zeros(32, 47))
    elif fault == "norm":
        change(second, norm__weight=torch.zeros(32))


@pytest.mark.parametrize(
    ("fault", "sentence"),
    [
        ("no params", r"params\.json is missing"),
        ("params cut", r"params\.json is not valid JSON"),
        ("no heads", r"params\.json lacks n_heads"),
        ("heads", r"params\.json has sizes that do not fit together"),
        ("scaled", r"params\.json asks for scaled rotary .*: use the model in the hub's format"),
        ("vocab", r"vocab_size of 32000, but the weights are for 48 tokens"),
        ("layers", r"00\.pth has unknown layers\.1\.attention\.wk\.weight: it is not of the model"),
        ("missing", r"lacks consolidated\.01\.pth: the weights are split over 2 files"),
        ("gap", r"lacks consolidated\.01\.pth"),
        ("extra", r"has consolidated\.02\.pth, but the weights are split over 2 files"),
        ("cut", r"consolidated\.01\.pth is damaged or not a file of weights"),
        ("empty", r"consolidated\.00\.pth is damaged or not a file of weights"),
        ("code", r"consolidated\.01\.pth is damaged or not a file of weights"),
        ("list", r"consolidated\.00\.pth is not a file of named weights"),
        ("of another file", r"00\.pth lacks layers\.0\.attention\.wq\.weight: it is not a file of"),
        ("lacking", r"01\.pth lacks layers\.1\.attention\.wo\.weight: it is not of the model that"),
        ("adapter", r"01\.pth has unknown adapter_query\.weight"),
        ("shape", r"w2\.weight has the shape \[32, 47\] instead of \[32, 48\]"),
        ("norm", r"01\.pth: norm\.weight differs from that of the first file"),
    ],
)
def test_a_bad_folder_is_one_sentence(tmp_path: Path, fault: str, sentence: str) -> None:
    folder = tmp_path / "llama"
    write(random_llama(), folder, 2)
    loaded(folder)
    faulty(folder, fault)
    with pytest.raises(ZiaError, match=sentence) as refused:
        loaded(folder)
    assert "\n" not in str(refused.value)


def test_a_tokenizer_of_another_model(tmp_path: Path) -> None:
    write(random_llama(), tmp_path / "llama", 1)
    with pytest.raises(ZiaError, match="has 49 tokens, the model 48"):
        loaded(tmp_path / "llama", 49)


def tokenizer_json(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers

    names = ["<unk>", "<s>", "</s>", "zero", "init", "attention"]
    tokenizer = Tokenizer(models.WordLevel({name: i for i, name in enumerate(names)}, "<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.save(str(folder / "tokenizer.json"))


def test_a_backbone_by_name_may_be_metas(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    model = random_llama()
    write(model, tmp_path / "llama-7b", 2)
    tokenizer_json(tmp_path / "llama-7b")
    found, tokenizer, weights = language_models.load(
        language_models.get("llama-7b"), torch.float32, "cpu"
    )
    assert torch.equal(found(IDS).logits, model(IDS).logits)
    assert (tokenizer.bos_token_id, tokenizer.eos_token_id) == (1, 2)
    assert list(weights) == ["consolidated.00.pth", "consolidated.01.pth", "params.json"]


def test_a_folder_in_the_hubs_format_comes_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    write(random_llama(), tmp_path / "llama-7b", 1)
    (tmp_path / "llama-7b" / "config.json").write_text("{}")
    save_file({"x": torch.zeros(1)}, tmp_path / "llama-7b" / "model.safetensors")
    with pytest.raises(ZiaError, match="llama-7b cannot be loaded"):
        language_models.load(language_models.get("llama-7b"), torch.float32, "cpu")


def test_memory_is_the_model_and_one_file(tmp_path: Path) -> None:
    """As torch counts it; besides, the matrix that is being reordered."""
    reference = random_llama()
    write(reference, tmp_path / "llama", 4)
    sizes = [t.numel() * t.element_size() for t in reference.state_dict().values()]
    peak = peak_of(lambda: loaded(tmp_path / "llama"))
    file = (tmp_path / "llama" / "consolidated.00.pth").stat().st_size
    assert sum(sizes) <= peak < sum(sizes) + file + max(sizes)
