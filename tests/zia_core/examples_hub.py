"""A loopback hub with the models that the documentation names, as tiny ones of the same layers."""

from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tokenizers import Tokenizer, models, pre_tokenizers
from transformers import LlamaConfig, LlamaForCausalLM, PreTrainedTokenizerFast

from tests.hub_server import HubServer

LAYERS = {"huggyllama/llama-7b": 32, "HuggingFaceTB/SmolLM2-135M-Instruct": 30}


@cache
def files(layers: int) -> dict[str, bytes]:
    """A LLaMA of width 16 with a tokenizer of letters."""
    letters = {letter: number for number, letter in enumerate("#_abcdefghijklmnopqrstuvwxyz.,:?")}
    words = Tokenizer(models.WordLevel(letters, unk_token="#"))
    words.pre_tokenizer = pre_tokenizers.Split("", "isolated")
    tokenizer = PreTrainedTokenizerFast(tokenizer_object=words, pad_token="_", unk_token="#")
    torch.manual_seed(layers)
    config = LlamaConfig(
        vocab_size=64, hidden_size=16, intermediate_size=24, num_hidden_layers=layers,
        num_attention_heads=2, pad_token_id=1, bos_token_id=2, eos_token_id=3,
    )  # fmt: skip
    with TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        LlamaForCausalLM(config).save_pretrained(folder)
        return {path.name: path.read_bytes() for path in Path(folder).iterdir()}


def examples_hub() -> HubServer:
    server = HubServer()
    for name, layers in LAYERS.items():
        server.model(name).commit(files(layers))
    return server
