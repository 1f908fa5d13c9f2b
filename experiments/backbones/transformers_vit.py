"""transformers' ViT and DINOv2 as timm's model, which the methods for images are written for."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones.weights import no_progress_bars
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from timm.models import VisionTransformer
    from torch import Tensor

KINDS = ("vit", "dinov2")
# Names in a block of transformers' model, of either kind, and in timm's.
IN_BLOCK = {
    "layernorm_before": "norm1",
    "layernorm_after": "norm2",
    "attention.o_proj": "attn.proj",
    "layer_scale1.lambda1": "ls1.gamma",
    "layer_scale2.lambda1": "ls2.gamma",
}
OUTSIDE = {
    "embeddings.cls_token": "cls_token",
    "embeddings.position_embeddings": "pos_embed",
    "embeddings.patch_embeddings.projection": "patch_embed.proj",
    "layernorm": "norm",
}
BLOCKS = {"vit": "layers.", "dinov2": "encoder.layer."}


def empty(config: dict[str, Any]) -> "VisionTransformer":
    """The model of a config.json, with the image size its positions are for.

    Raises:
        ZiaError: the model is of another kind.
    """
    from functools import partial

    from timm.models import VisionTransformer
    from torch import nn
    from transformers import AutoConfig

    kind = config.get("model_type")
    plain = config.get("hidden_act", "gelu") == "gelu" and not config.get("use_swiglu_ffn")
    if kind not in KINDS or not plain:
        raise ZiaError(
            f"its config.json has the model_type {kind!r:.40}; take a ViT of timm, or "
            "transformers' ViT or DINOv2 with a plain MLP"
        )
    c: Any = AutoConfig.for_model(**config)
    dinov2 = kind == "dinov2"
    return VisionTransformer(
        img_size=c.image_size,
        patch_size=c.patch_size,
        in_chans=c.num_channels,
        num_classes=0,
        embed_dim=c.hidden_size,
        depth=c.num_hidden_layers,
        num_heads=c.num_attention_heads,
        mlp_ratio=c.mlp_ratio if dinov2 else c.intermediate_size / c.hidden_size,
        qkv_bias=c.qkv_bias,
        init_values=c.layerscale_value if dinov2 else None,
        norm_layer=partial(nn.LayerNorm, eps=c.layer_norm_eps),
    )


def weights(folder: Path, kind: str) -> "dict[str, Tensor]":
    """The weights of the model in `folder` under timm's names, in float32."""
    import torch
    from transformers import AutoModel

    with no_progress_bars():
        model, report = AutoModel.from_pretrained(
            folder, dtype=torch.float32, output_loading_info=True, trust_remote_code=False
        )
    if missing := [name for name in report["missing_keys"] if "pooler" not in name]:
        raise ValueError(f"{missing[0]} is missing")
    found: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        if not name.startswith(("pooler.", "embeddings.mask_token")):
            found[_renamed(name, BLOCKS[kind])] = tensor
    for query in [name for name in found if ".attention.q_proj." in name]:
        parts = [found.pop(query.replace("q_proj", f"{each}_proj")) for each in "qkv"]
        found[query.replace("attention.q_proj", "attn.qkv")] = torch.cat(parts)
    return found


def _renamed(name: str, blocks: str) -> str:
    new = f"blocks.{name.removeprefix(blocks)}" if name.startswith(blocks) else name
    for theirs, timms in (IN_BLOCK if new != name else OUTSIDE).items():
        if theirs in new:
            return new.replace(theirs, timms, 1)
    return new
