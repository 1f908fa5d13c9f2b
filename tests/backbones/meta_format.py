"""Write a LLaMA of transformers as Meta released its models: split over files, pairs of rotary
channels side by side. Written from the format's description, not from the reader."""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from transformers import LlamaConfig, LlamaForCausalLM

LAYER_NAMES = {
    "self_attn.q_proj": ("attention.wq", 0),
    "self_attn.k_proj": ("attention.wk", 0),
    "self_attn.v_proj": ("attention.wv", 0),
    "self_attn.o_proj": ("attention.wo", 1),
    "mlp.gate_proj": ("feed_forward.w1", 0),
    "mlp.down_proj": ("feed_forward.w2", 1),
    "mlp.up_proj": ("feed_forward.w3", 0),
    "input_layernorm": ("attention_norm", None),
    "post_attention_layernorm": ("ffn_norm", None),
}
MULTIPLE = 32  # of the MLP's width, so that it can be split over four files


def random_llama(kv_heads: int = 4, vocab: int = 48) -> LlamaForCausalLM:
    """A LLaMA of two layers with random weights, norms included."""
    torch.manual_seed(3)
    config = LlamaConfig(
        vocab_size=vocab,
        hidden_size=32,
        intermediate_size=96,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=kv_heads,
        rms_norm_eps=1e-6,
        initializer_range=0.3,
    )
    model = LlamaForCausalLM(config)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.ndim == 1:
                parameter.uniform_(0.5, 1.5)
    return model.eval()


def interleaved(weight: Tensor, heads: int) -> Tensor:
    """Rows 0, 1, ..., of two halves of a head, as 0, half, 1, half + 1, ..."""
    width = weight.shape[0] // heads
    order = [
        head * width + row + half
        for head in range(heads)
        for row in range(width // 2)
        for half in (0, width // 2)
    ]
    return weight[order]


def whole(model: LlamaForCausalLM, embedding_axis: int) -> dict[str, tuple[Tensor, int | None]]:
    """Meta's name of each tensor, the tensor, and the axis it is split along."""
    config, state = model.config, model.state_dict()
    found: dict[str, tuple[Tensor, int | None]] = {
        "tok_embeddings.weight": (state["model.embed_tokens.weight"], embedding_axis),
        "norm.weight": (state["model.norm.weight"], None),
        "output.weight": (state["lm_head.weight"], 0),
    }
    for layer in range(config.num_hidden_layers):
        for theirs, (name, axis) in LAYER_NAMES.items():
            tensor = state[f"model.layers.{layer}.{theirs}.weight"]
            if name == "attention.wq":
                tensor = interleaved(tensor, config.num_attention_heads)
            elif name == "attention.wk":
                tensor = interleaved(tensor, config.num_key_value_heads)
            found[f"layers.{layer}.{name}.weight"] = (tensor, axis)
    return found


def write(
    model: LlamaForCausalLM, folder: Path, files: int, embedding_axis: int = 1, **params: Any
) -> None:
    """Write weights and params.json; `params` replaces fields, None removes one."""
    folder.mkdir(parents=True)
    config = model.config
    parts: list[dict[str, Tensor]] = [{} for _ in range(files)]
    for name, (tensor, axis) in whole(model, embedding_axis).items():
        split = [tensor] * files if axis is None else tensor.chunk(files, dim=axis)
        for part, piece in zip(parts, split, strict=True):
            part[name] = piece.clone()
    for number, part in enumerate(parts):
        part["rope.freqs"] = torch.ones(4)
        torch.save(part, folder / f"consolidated.{number:02d}.pth")
    stated = {
        "dim": config.hidden_size,
        "multiple_of": MULTIPLE,
        "n_heads": config.num_attention_heads,
        "n_kv_heads": config.num_key_value_heads,
        "n_layers": config.num_hidden_layers,
        "norm_eps": config.rms_norm_eps,
        "vocab_size": -1,
    } | params
    content = {name: value for name, value in stated.items() if value is not None}
    (folder / "params.json").write_text(json.dumps(content))


def change(file: Path, **tensors: Any) -> None:
    """Replace tensors of a file, with `__` for each dot of a name; None removes one."""
    content = torch.load(file, weights_only=True)
    content |= {name.replace("__", "."): tensor for name, tensor in tensors.items()}
    torch.save({name: t for name, t in content.items() if t is not None}, file)
