"""Make litgpt.npz: a tiny LLaMA with an adapter v1, and its logits by LitGPT itself.

pip install litgpt==0.5.13 && python -m tests.zia_core.convert.make_litgpt
"""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

FILE = Path(__file__).with_name("litgpt.npz")
SIZES = {
    "vocab_size": 32, "hidden_size": 16, "intermediate_size": 24, "num_hidden_layers": 3,
    "num_attention_heads": 4, "num_key_value_heads": 2, "rms_norm_eps": 1e-6,
}  # fmt: skip
PROMPTS, LAYERS = 5, 2


def backbone() -> LlamaForCausalLM:
    """The base model, with the same random weights everywhere but not yet those of the file."""
    config: Any = LlamaConfig(**SIZES, tie_word_embeddings=False)
    return LlamaForCausalLM(config).eval()


def make() -> None:
    """Convert the base model with LitGPT's own script, run it, and write everything."""
    from litgpt.adapter import GPT, Config
    from litgpt.scripts.convert_hf_checkpoint import copy_weights_hf_llama

    torch.manual_seed(0)
    base = backbone()
    for parameter in base.parameters():
        torch.nn.init.normal_(parameter, std=0.3)
    config = Config(
        name="llama", block_size=16, n_layer=3, n_head=4, n_query_groups=2, n_embd=16,
        vocab_size=32, padded_vocab_size=32, rotary_percentage=1.0, parallel_residual=False,
        bias=False, norm_class_name="RMSNorm", norm_eps=1e-6, mlp_class_name="LLaMAMLP",
        intermediate_size=24, rope_base=10000, head_size=4,
        adapter_prompt_length=PROMPTS, adapter_start_layer=3 - LAYERS,
    )  # fmt: skip
    model = GPT(config).eval()
    weights: dict[str, torch.Tensor] = {}
    copy_weights_hf_llama(config, {}, weights, base.state_dict())
    model.load_state_dict(weights, strict=False)
    adapter = {n: p for n, p in model.named_parameters() if "adapter" in n or "gating" in n}
    for parameter in adapter.values():
        torch.nn.init.normal_(parameter)
    ids = torch.randint(0, 32, (2, 9))
    with torch.no_grad():
        logits = model(ids)
    tensors = {f"base/{n}": t for n, t in base.state_dict().items()}
    tensors |= {f"adapter/{n}": t.detach() for n, t in adapter.items()}
    tensors |= {"ids": ids, "logits": logits}
    np.savez_compressed(FILE, allow_pickle=False, **{n: t.numpy() for n, t in tensors.items()})


if __name__ == "__main__":
    make()
