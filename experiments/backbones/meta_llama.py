"""Load LLaMA as Meta released it: `params.json`, `consolidated.NN.pth` and a tokenizer.

Large models are split over several files (13B over 2, 65B over 8). Each matrix is split along one
axis, as in Meta's model parallelism. Meta's rotary embedding pairs channels (2i, 2i + 1) of a head
and transformers' pairs (i, i + half), so the rows of q and k are reordered. In memory there are the
model and, mapped, one of the files.
"""

import pickle
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.io.files import read_json
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

if TYPE_CHECKING:
    import torch
    from torch import Tensor
    from transformers import LlamaConfig, LlamaForCausalLM

PARAMS, SUFFIX = "params.json", ".pth"
CONTEXT = 2048  # LLaMA-1's; no number depends on it
EMBEDDING, OUTPUT = "tok_embeddings.weight", "output.weight"
ROTATED = ("attention.wq.weight", "attention.wk.weight")
# Each tensor's name in transformers' model, and the axis along which files split it.
OUTSIDE: dict[str, tuple[str, int | None]] = {
    EMBEDDING: ("model.embed_tokens.weight", 1),  # 0 in LLaMA-3
    "norm.weight": ("model.norm.weight", None),
    OUTPUT: ("lm_head.weight", 0),
}
IN_LAYER: dict[str, tuple[str, int | None]] = {
    "attention.wq.weight": ("self_attn.q_proj.weight", 0),
    "attention.wk.weight": ("self_attn.k_proj.weight", 0),
    "attention.wv.weight": ("self_attn.v_proj.weight", 0),
    "attention.wo.weight": ("self_attn.o_proj.weight", 1),
    "feed_forward.w1.weight": ("mlp.gate_proj.weight", 0),
    "feed_forward.w2.weight": ("mlp.down_proj.weight", 1),
    "feed_forward.w3.weight": ("mlp.up_proj.weight", 0),
    "attention_norm.weight": ("input_layernorm.weight", None),
    "ffn_norm.weight": ("post_attention_layernorm.weight", None),
}
FREQUENCIES = re.compile(r"(layers\.\d+\.attention\.inner_attention\.)?rope\.freqs")  # computed


def weight_files(folder: Path) -> list[Path]:
    """The weight files in order; empty if the folder is not in Meta's format."""
    return sorted(folder.glob(f"consolidated.*{SUFFIX}"))


def load(folder: Path, dtype: "torch.dtype", tokens: int) -> "LlamaForCausalLM":
    """Load the model on the CPU, in eval mode, with weights in `dtype`.

    Raises:
        ZiaError: a file is missing, damaged, or of another model, or the tokenizer has more
            `tokens` than the model.
    """
    import torch
    from transformers import LlamaForCausalLM

    files = weight_files(folder)
    config = llama_config(folder, files)
    if tokens > config.vocab_size:
        raise ZiaError(
            f"the tokenizer in {folder} has {tokens} tokens, the model {config.vocab_size}: fetch "
            "both again"
        )
    with torch.device("meta"):
        shapes = {name: t.shape for name, t in LlamaForCausalLM(config).state_dict().items()}
    weights = {name: torch.empty(shape, dtype=dtype) for name, shape in shapes.items()}
    for number, file in enumerate(files):
        _copy(file, number, len(files), weights, config)
    # transformers keeps these tensors, and computes the rotary frequencies.
    model: Any = LlamaForCausalLM.from_pretrained(
        None, config=config, state_dict=weights, dtype=dtype
    )
    return model.eval()


def llama_config(folder: Path, files: list[Path]) -> "LlamaConfig":
    """The sizes in params.json, and the vocabulary's from the weights: params.json may say -1."""
    from transformers import LlamaConfig

    where = str(folder / PARAMS)
    given = read_json(folder / PARAMS)
    if given.get("use_scaled_rope"):
        raise ZiaError(
            f"{where} asks for scaled rotary embeddings (LLaMA 3.1 and later), which are not read "
            "from Meta's format: use the model in the hub's format"
        )
    whole = ("dim", "n_layers", "n_heads", "n_kv_heads", "multiple_of", "vocab_size")
    numbers = ("norm_eps", "rope_theta", "ffn_dim_multiplier")
    kinds: dict[str, type] = dict.fromkeys(whole, int) | dict.fromkeys(numbers, float)
    defaults = {"n_kv_heads": given.get("n_heads"), "vocab_size": -1, "rope_theta": 10000.0}
    stated = {name: value for name, value in given.items() if value is not None}
    p = conform_fields(kinds, defaults | {"ffn_dim_multiplier": 1.0} | stated, where)
    sizes = [p[name] for name in whole[:-1]]
    if min(sizes) < 1 or p["dim"] % (2 * p["n_heads"]) or p["n_heads"] % p["n_kv_heads"]:
        raise ZiaError(f"{where} has sizes that do not fit together: fetch it again")
    inner = int(p["ffn_dim_multiplier"] * int(8 * p["dim"] / 3))
    tokens = _check_files(folder, files, p["dim"])
    if p["vocab_size"] not in (-1, tokens):
        raise ZiaError(
            f"{where} has a vocab_size of {p['vocab_size']}, but the weights are for {tokens} "
            "tokens: fetch both again"
        )
    return LlamaConfig(
        vocab_size=tokens,
        hidden_size=p["dim"],
        intermediate_size=-(-inner // p["multiple_of"]) * p["multiple_of"],
        num_hidden_layers=p["n_layers"],
        num_attention_heads=p["n_heads"],
        num_key_value_heads=p["n_kv_heads"],
        rms_norm_eps=p["norm_eps"],
        rope_parameters={"rope_type": "default", "rope_theta": p["rope_theta"]},
        max_position_embeddings=CONTEXT,
        tie_word_embeddings=False,
    )


def _check_files(folder: Path, files: list[Path], width: int) -> int:
    """Return the size of the vocabulary; ZiaError unless exactly the model's files are there."""
    first, name = _opened(files[0]), "layers.0.attention.wq.weight"
    for needed in (name, OUTPUT):
        if needed not in first or first[needed].ndim != 2 or not len(first[needed]):
            raise ZiaError(f"{files[0]} lacks {needed}: it is not a file of LLaMA's weights")
    count = max(1, width // len(first[name]))
    expected = [f"consolidated.{number:02d}.pth" for number in range(count)]
    found = [file.name for file in files]
    if missing := [each for each in expected if each not in found]:
        raise ZiaError(
            f"{folder} lacks {', '.join(missing)}: the weights are split over {count} files"
        )
    if extra := [each for each in found if each not in expected]:
        raise ZiaError(
            f"{folder} has {', '.join(extra)}, but the weights are split over {count} files: "
            "keep each model in a folder of its own"
        )
    return count * len(first[OUTPUT])


def _opened(file: Path) -> "dict[str, Tensor]":
    """The tensors of a file, mapped into memory; no code in it is run."""
    import torch

    try:
        found = torch.load(file, map_location="cpu", mmap=True, weights_only=True)
    except (OSError, EOFError, RuntimeError, ValueError, pickle.UnpicklingError) as error:
        raise ZiaError(f"{file} is damaged or not a file of weights: fetch it again") from error
    if not isinstance(found, dict) or not all(isinstance(t, torch.Tensor) for t in found.values()):
        raise ZiaError(f"{file} is not a file of named weights: fetch it again")
    return {name: tensor for name, tensor in found.items() if not FREQUENCIES.fullmatch(name)}


def _copy(
    file: Path, number: int, count: int, weights: "dict[str, Tensor]", config: "LlamaConfig"
) -> None:
    """Copy part `number` of `count` into `weights`, named and shaped as transformers' are."""
    part = _opened(file)
    targets = dict(OUTSIDE)
    for layer in range(config.num_hidden_layers):
        for name, (target, axis) in IN_LAYER.items():
            targets[f"layers.{layer}.{name}"] = (f"model.layers.{layer}.{target}", axis)
    for fault, names in (("lacks", targets.keys() - part), ("has unknown", part.keys() - targets)):
        if names:
            raise ZiaError(
                f"{file} {fault} {min(names)}: it is not of the model that {PARAMS} describes"
            )
    for name, (target, axis) in targets.items():
        whole, tensor = weights[target], part.pop(name)
        if name == EMBEDDING and tensor.shape[-1] == config.hidden_size:
            axis = 0
        shape = list(whole.shape)
        if axis is not None:
            shape[axis] //= count
        if list(tensor.shape) != shape:
            raise ZiaError(
                f"{file}: {name} has the shape {list(tensor.shape)} instead of {shape}: it is not "
                f"of the model that {PARAMS} describes"
            )
        if name.endswith(ROTATED):
            tensor = _half_split(tensor, config.hidden_size // config.num_attention_heads)
        if axis is not None:
            whole = whole.narrow(axis, number * shape[axis], shape[axis])
        elif number and not bool((whole == tensor.to(whole.dtype)).all()):
            raise ZiaError(f"{file}: {name} differs from that of the first file: fetch all again")
        whole.copy_(tensor)


def _half_split(weight: "Tensor", head_width: int) -> "Tensor":
    """Reorder rows of q or k from neighbouring rotary pairs to two halves of each head."""
    rows, width = weight.shape
    pairs = weight.view(rows // head_width, head_width // 2, 2, width)
    return pairs.transpose(1, 2).reshape(rows, width)
