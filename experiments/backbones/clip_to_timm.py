"""Rename the tensors of transformers' CLIP vision tower for timm's VisionTransformer."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor

_PREFIX = "vision_model."  # the projection into CLIP's joint space is outside it and left out
_RENAMED = {
    "embeddings.class_embedding": "cls_token",
    "embeddings.position_embedding.weight": "pos_embed",
    "embeddings.patch_embedding.": "patch_embed.proj.",
    "pre_layrnorm.": "norm_pre.",
    "post_layernorm.": "norm.",
    "encoder.layers.": "blocks.",
    "layer_norm": "norm",
    "self_attn.out_proj": "attn.proj",
}


def timm_tensors(tensors: "Mapping[str, Tensor]") -> "dict[str, Tensor]":
    """Return the tower's tensors as timm has them, queries, keys and values in one layer.

    KeyError if a layer lacks one of the three.
    """
    from torch import cat

    found = {}
    for name, tensor in tensors.items():
        if not name.startswith(_PREFIX) or "k_proj" in name or "v_proj" in name:
            continue
        if "q_proj" in name:
            tensor = cat([tensors[name.replace("q_proj", f"{each}_proj")] for each in "qkv"])
        renamed = name.removeprefix(_PREFIX).replace("self_attn.q_proj", "attn.qkv")
        for theirs, timms in _RENAMED.items():
            renamed = renamed.replace(theirs, timms)
        shape = {"cls_token": (1, 1, -1), "pos_embed": (1, *tensor.shape)}.get(renamed)
        found[renamed] = tensor if shape is None else tensor.reshape(shape)
    return found
