"""A loopback hub with the models that the documentation names, as tiny ones of the same layers."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from peft import AdaptionPromptConfig, get_peft_model
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.hub_server import HubServer

LAYERS = {"huggyllama/llama-7b": 32, "HuggingFaceTB/SmolLM2-135M-Instruct": 30}


def configuration(layers: int) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip


@cache
def files(layers: int) -> dict[str, bytes]:
    """A LLaMA of width 16 with a tokenizer of letters."""
    letters = {letter: number for number, letter in enumerate("#_abcdefghijklmnopqrstuvwxyz.,:?")}
    words = Tokenizer(models.WordLevel(letters, unk_token="#"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=words, pad_token="_", unk_token="#",
        model_input_names=["input_ids", "attention_mask"],
    )  # fmt: skip
    torch.manual_seed(layers)
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        LlamaForCausalLM(configuration(layers)).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def examples_hub() -> HubServer:
    server = HubServer()
    for name, layers in LAYERS.items():
        server.model(name).commit(files(layers))
    return server


def write_foreign_adapters(folder: Path) -> None:
    """The checkpoints that the guide converts, by the names that it gives them."""
    prompts, layers = 10, 30
    folder.mkdir()
    bare = LlamaForCausalLM(configuration(LAYERS["HuggingFaceTB/SmolLM2-135M-Instruct"]))
    config = AdaptionPromptConfig(adapter_len=prompts, adapter_layers=layers, task_type="CAUSAL_LM")
    get_peft_model(bare, config).save_pretrained(folder / "adaption_prompt")
    top = range(LAYERS["huggyllama/llama-7b"] - layers, LAYERS["huggyllama/llama-7b"])
    gates = {f"layers.{layer}.attention.gate": torch.rand(1, 2, 1, 1) for layer in top}
    query = {"adapter_query.weight": torch.randn(layers * prompts, 16)}
    torch.save(query | gates, folder / "llama_adapter_len10_layer30.pth")
    parts = {"adapter_wte.weight": (prompts, 16), "gating_factor": (1, 1, 2, 1)}
    torch.save(
        {f"transformer.h.{n}.attn.{part}": torch.randn(parts[part]) for n in top for part in parts},
        folder / "lit_model.pth.adapter",
    )
