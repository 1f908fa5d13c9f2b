"""4-bit backbones against a naive reference on the dequantised weights."""

import copy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bitsandbytes
import pytest
import timm
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM, RobertaConfig, RobertaForQuestionAnswering

from tests.zia_core.backbones import open_gates
from tests.zia_core.family_checks import Reference, difference, leaf, naive
from tests.zia_core.test_step_memory import words_loss
from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_settings
from zia_core import ZeroInitConfig, ZiaError, attach, zero_init_layers
from zia_core.baselines import adaption_prompt, full, lora
from zia_core.baselines.bitfit import bitfit
from zia_core.engine import train
from zia_core.families import attention_layers
from zia_core.four_bit import quantise, scales
from zia_core.step_memory import step_memory

SIZES = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "vocab_size": 64,
    "use_cache": False,
}
CONFIG = ZeroInitConfig(prompt_length=3, num_layers=2)
IDS = torch.arange(3 * 9).reshape(3, 9) % 61 + 3


def llama(**changes: Any) -> LlamaForCausalLM:
    torch.manual_seed(0)
    config = LlamaConfig(**SIZES | {"num_key_value_heads": 2, "initializer_range": 0.2} | changes)
    return LlamaForCausalLM(config).eval()


def roberta() -> nn.Module:
    torch.manual_seed(0)
    config = RobertaConfig(**SIZES, max_position_embeddings=64, initializer_range=0.2)
    return RobertaForQuestionAnswering(config).eval()


def vit() -> nn.Module:
    torch.manual_seed(0)
    sizes = {"img_size": 16, "patch_size": 4, "embed_dim": 64, "depth": 3, "num_heads": 4}
    return timm.create_model("vit_tiny_patch16_224", num_classes=5, **sizes).eval()


def words(model: Any) -> Tensor:
    found = model(input_ids=IDS)
    return found.logits if hasattr(found, "logits") else found.start_logits


def pixels(model: nn.Module) -> Tensor:
    return model(torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(1)).to(
        next(p for p in model.parameters() if p.is_floating_point()).dtype
    ))  # fmt: skip


def dequantised(model: nn.Module) -> nn.Module:
    """The same model with ordinary linear layers, in float64."""
    model = copy.deepcopy(model)
    for parent in list(model.modules()):
        for name, layer in list(parent.named_children()):
            if isinstance(layer, bitsandbytes.nn.Linear4bit):
                plain = nn.Linear(layer.in_features, layer.out_features, layer.bias is not None)
                weight: Any = layer.weight
                with torch.no_grad():
                    plain.weight.copy_(
                        bitsandbytes.functional.dequantize_4bit(weight.data, weight.quant_state)
                    )
                    if layer.bias is not None:
                        plain.bias.copy_(layer.bias)
                setattr(parent, name, plain)
    return model.double().requires_grad_(False).eval()


@pytest.mark.parametrize(
    ("build", "run"),
    [(llama, words), (roberta, words), (vit, pixels)],
    ids=["llama", "bert", "vit"],
)
def test_prompts_get_the_keys_and_values_that_the_4_bit_layer_makes(
    build: Callable[[], nn.Module], run: Callable[[Any], Tensor]
) -> None:
    """Captured from the layer's own pass over the prompts, at random non-zero gates."""
    bare = dequantised(quantise(build()))
    plain = run(bare)
    ours = attach(quantise(build()), CONFIG)
    assert difference(run(build()), plain.float()) > 1e-2, "the weights are not in 4 bits"
    open_gates(ours)
    layers = zero_init_layers(ours)
    names = [layer.name for layer in attention_layers(bare)[-CONFIG.num_layers :]]
    references = {
        name: Reference(*(leaf(p.double()) for p in (layer.prompt, layer.gate)))
        for name, layer in zip(names, layers, strict=True)
    }
    result = run(ours)
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(3))
    (result * weight).sum().backward()
    with naive(bare, references):
        expected = run(bare)
    (expected * weight).sum().backward()
    assert difference(expected, plain) > 1e-2, "the prompts change nothing"
    assert difference(result.double(), expected) < 1e-5
    for name, layer in zip(names, layers, strict=True):
        for mine, theirs in ((layer.prompt, "prompt"), (layer.gate, "gate")):
            assert mine.dtype == torch.float32
            assert difference(mine.grad.double(), getattr(references[name], theirs).grad) < 1e-4


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_at_zero_gates_the_model_is_the_4_bit_backbone_bitwise(dtype: torch.dtype) -> None:
    bare = quantise(llama().to(dtype))
    with torch.no_grad():
        plain = words(bare)
        assert torch.equal(words(attach(quantise(llama().to(dtype)), CONFIG)), plain)
    assert plain.dtype == dtype


@torch.no_grad()
def greedy(model: Any) -> Tensor:
    return model.generate(input_ids=IDS[:, :4], max_new_tokens=6, do_sample=False, pad_token_id=0)


def test_an_evaluation_leaves_the_weights_and_their_gradients_as_they_are() -> None:
    """On CPUs with AVX-512 BF16, bitsandbytes would repack them in a pass without gradients."""
    model = attach(quantise(llama()), CONFIG)
    open_gates(model)
    before = words(model).detach()
    with torch.no_grad():
        assert difference(words(model), before) < 1e-6
    greedy(model)
    model.train()
    words(model).sum().backward()
    assert zero_init_layers(model)[0].prompt.grad.abs().max() > 0
    assert torch.equal(words(model), before)


@pytest.mark.parametrize("method", [lora, adaption_prompt], ids=["lora", "adaption-prompt"])
def test_peft_trains_on_4_bits(method: Callable[..., Any]) -> None:
    model = quantise(llama())
    plain = words(model).detach()
    options = {"dropout": 0.0} if method is lora else {"prompt_length": 3, "num_layers": 2}
    model = method(model, **options)
    assert difference(words(model), plain) < 1e-6
    trained = [p for p in model.parameters() if p.requires_grad]
    assert {p.dtype for p in trained} == {torch.float32}
    words(model).square().mean().backward()
    assert any(p.grad.abs().max() > 0 for p in trained)


def test_training_is_resumed_bitwise(tmp_path: Path) -> None:
    def done(folder: str, stop_after: int | None = None) -> FolderJournal:
        torch.manual_seed(5)
        model = attach(quantise(llama()), CONFIG)
        journal = FolderJournal(tmp_path / folder, stop_after=stop_after)
        settings = toy_settings(precision="nf4", checkpoint_every=1)
        if stop_after is None:
            train(model, ToyTask(), settings, journal)
        else:
            with pytest.raises(Exception, match="stopped after step 3"):
                train(model, ToyTask(), settings, journal)
        return journal

    whole = done("whole")
    done("cut", stop_after=3)
    assert done("cut").losses() == whole.losses()
    assert len(set(whole.losses())) == len(whole.losses()) == 8


@pytest.mark.parametrize(
    ("precision", "four_bit"), [("fp32", True), ("bf16", True), ("nf4", False)]
)
def test_the_precision_must_be_the_model_s(precision: str, four_bit: bool, tmp_path: Path) -> None:
    model = attach(quantise(llama()) if four_bit else llama(), CONFIG)
    with pytest.raises(ZiaError, match=rf"^precision={precision} does not fit a model in torch"):
        train(model, ToyTask(), toy_settings(precision=precision), FolderJournal(tmp_path))


def test_what_cannot_be_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    model = quantise(llama())
    with pytest.raises(ZiaError, match=r"^Full fine-tuning trains the backbone's weights, and"):
        full(model)
    with pytest.raises(ZiaError, match=r"^BitFit trains the backbone's weights, and these are in"):
        bitfit(quantise(roberta()))
    with pytest.raises(ZiaError, match=r"^LlamaForCausalLM is adapted or in 4 bits already; quant"):
        quantise(model)
    with pytest.raises(ZiaError, match="adapted or in 4 bits already"):
        quantise(attach(llama(), CONFIG))
    with pytest.raises(ZiaError, match="has no linear layers in its blocks; do without 4 bits"):
        quantise(nn.Sequential(nn.Conv1d(1, 1, 1), nn.Conv1d(1, 1, 1)))
    monkeypatch.setitem(sys.modules, "bitsandbytes", None)
    with pytest.raises(
        ZiaError, match=r"is not installed; install zero-init-attention\[4bit\], or"
    ):
        quantise(llama())


def test_peft_is_imported_without_a_warning_of_bitsandbytes(repository: Path) -> None:
    """PEFT imports it if it is there, and on some CPUs it then warns of a kernel nobody asked for.

    The warning is made here, so that it is seen to be held back on every CPU.
    """
    program = (
        "import logging, sys, types\n"
        "class Finder:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name == 'peft':\n"
        "            logging.getLogger('bitsandbytes.backends.cpu.ops').warning('a kernel')\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from torch import nn\n"
        "from zia_core.baselines import lora\n"
        "try: lora(nn.Linear(1, 1))\n"
        "except Exception: pass\n"
        "assert 'peft' in sys.modules\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], cwd=repository, capture_output=True, text=True, check=True
    )
    assert "kernel" not in done.stderr


@pytest.mark.parametrize("inside", [True, False])
def test_a_model_without_values_spoils_no_later_one(
    inside: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As if in a new process: bitsandbytes makes its table of scales once."""
    expected = words(quantise(llama()))
    monkeypatch.setattr(bitsandbytes.functional, "name2qmap", {})
    with torch.device("meta"):
        model = llama()
        if inside:
            quantise(model)
    if not inside:
        quantise(model)
    assert torch.equal(words(quantise(llama())), expected)


def test_the_memory_is_predicted_with_the_scales() -> None:
    """An eighth of float32, a byte for 64 weights, and four for 16,384."""
    with torch.device("meta"):
        model = llama(hidden_size=256, intermediate_size=512, vocab_size=512).bfloat16()
        model = attach(quantise(model), CONFIG)
    found = step_memory(model, lambda: words_loss("meta", model))
    packed = 3 * (2 * 256 * 256 + 2 * 256 * 128 + 3 * 256 * 512)
    small = sum(p.nbytes for p in model.parameters() if p.dtype != torch.uint8)
    codes = 3 * 7 * (16 + 256 + 1) * 4  # tables of values and the mean scale, of each layer
    nested = 4 * 3 * (2 * 4 + 2 * 2 + 3 * 8)
    frequencies = 32 * 4  # of the rotary embedding
    assert found.weights == packed // 2 + packed // 64 + nested + codes + small + frequencies
    assert sum(part.nbytes for part in scales(model)) == packed // 64 + nested + codes
    assert found.trained == 3 * 4 * sum(p.numel() for p in model.parameters() if p.requires_grad)
