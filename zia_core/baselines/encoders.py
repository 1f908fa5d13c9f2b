"""Find the parts of an encoder that baselines hook: blocks, sublayers, input, last norm."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from torch import nn

from zia_core.errors import ZiaError

# The modules of a block whose outputs attention and MLP add to the residual stream: after the
# projection back to the model's width, before the skip connection.
_SUBLAYERS: dict[str, Callable[[Any], tuple[nn.Module, nn.Module]]] = {
    "Block": lambda block: (block.attn, block.mlp),
    "ViTLayer": lambda block: (block.attention.o_proj, block.mlp),
    "BertLayer": lambda block: (block.attention.output.dropout, block.output.dropout),
    "RobertaLayer": lambda block: (block.attention.output.dropout, block.output.dropout),
}
# Twenty other modules of timm have a `Block` too.
_TIMM_BLOCKS = "timm.models.vision_transformer"
# The module of a text encoder that returns `last_hidden_state`, before a pooler reads it; "" is the
# encoder itself.
_LAST: dict[str, str] = {
    "BertModel": "encoder",
    "RobertaModel": "encoder",
    "XLMRobertaModel": "encoder",
    "CamembertModel": "encoder",
    "ElectraModel": "encoder",
    "DistilBertModel": "transformer",
    "ModernBertModel": "",
}


@dataclass(frozen=True)
class ImageEncoder:
    """The parts of a ViT.

    Attributes:
        patches: the module that takes images [B, channels, H, W].
        channels: of the images.
        image_size: (H, W) in pixels that the model was built for.
        patch_size: pixels per token, (down, across).
        width: C, width of the hidden states.
        blocks: lowest first; each takes [B, N, C].
        norm: after the last block (may be an identity).
        prefix_tokens: number of tokens before the patches: CLS, registers.
    """

    patches: nn.Module
    channels: int
    image_size: tuple[int, int]
    patch_size: tuple[int, int]
    width: int
    blocks: list[nn.Module]
    norm: nn.Module
    prefix_tokens: int


@dataclass(frozen=True)
class TextEncoder:
    """The parts of a BERT.

    Attributes:
        base: the encoder without task head; takes `input_ids` or `inputs_embeds`.
        words: the embeddings of tokens, [vocabulary, C].
        last: the module whose output has `last_hidden_state`, [B, T, C], before any pooler.
        most_tokens: the longest input that has positions.
    """

    base: nn.Module
    words: nn.Embedding
    last: nn.Module
    most_tokens: int


def blocks(model: nn.Module) -> list[nn.Module]:
    """The transformer blocks of a timm ViT or a transformers ViT, BERT or RoBERTa, lowest first.

    Raises:
        ZiaError: another kind of model.
    """
    found = [
        module
        for module in model.modules()
        if type(module).__name__ in _SUBLAYERS
        and type(module).__module__.startswith(("transformers.", _TIMM_BLOCKS))
    ]
    if not found:
        raise ZiaError(
            f"This baseline does not support {type(model).__name__}; it takes a timm ViT or a "
            "transformers ViT, BERT or RoBERTa."
        )
    return found


def sublayer_outputs(block: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The modules that return the attention's and the MLP's output [B, T, C] in a block."""
    return _SUBLAYERS[type(block).__name__](block)


def image_encoder(model: Any) -> ImageEncoder:
    """The parts of a timm or transformers ViT.

    Raises:
        ZiaError: another kind of model.
    """
    kind = type(model).__name__
    if isinstance(getattr(model, "patch_embed", None), nn.Module):
        missing = [name for name in ("norm", "num_prefix_tokens") if not hasattr(model, name)]
        missing += [
            n for n in ("proj", "grid_size", "img_size") if not hasattr(model.patch_embed, n)
        ]
        if missing or model.patch_embed.img_size is None:
            raise ZiaError(
                f"{kind} is not built like timm's VisionTransformer (it has no "
                f"{', '.join(missing) or 'image size of its own'}), which this baseline takes."
            )
        tower, norm, prefix_tokens = model, model.norm, model.num_prefix_tokens
        patches = tower.patch_embed
        projection, (rows, columns) = patches.proj, patches.grid_size
        height, width = patches.img_size
        patch_size = (height // rows, width // columns)
    elif isinstance(getattr(model, "vit", None), nn.Module):
        tower, norm, prefix_tokens = model.vit, model.vit.layernorm, 1
        patches = tower.embeddings.patch_embeddings
        projection, patch_size = patches.projection, patches.patch_size
        height, width = patches.image_size
    else:
        raise ZiaError(f"{kind} is not a timm or transformers ViT classifier.")
    # A convolutional stem may come before the projection.
    first = next(module for module in patches.modules() if isinstance(module, nn.Conv2d))
    return ImageEncoder(
        patches=patches,
        channels=first.in_channels,
        image_size=(height, width),
        patch_size=patch_size,
        width=projection.out_channels,
        blocks=blocks(tower),
        norm=norm,
        prefix_tokens=prefix_tokens,
    )


def text_encoder(model: Any) -> TextEncoder:
    """The parts of a transformers BERT, RoBERTa, XLM-R, CamemBERT, ELECTRA, DistilBERT, ModernBERT.

    Raises:
        ZiaError: another kind of model.
    """
    base: Any = getattr(model, "base_model", model)
    kind = type(base)
    if kind.__name__ not in _LAST or not kind.__module__.startswith("transformers."):
        raise ZiaError(
            f"{type(model).__name__} is not a transformers BERT, RoBERTa, XLM-R, CamemBERT, "
            "ELECTRA, DistilBERT or ModernBERT."
        )
    positions = getattr(base.embeddings, "position_embeddings", None)
    if positions is None:  # rotary
        most_tokens = base.config.max_position_embeddings
    else:  # RoBERTa counts from after its padding index
        padding = positions.padding_idx
        most_tokens = positions.num_embeddings - (0 if padding is None else padding + 1)
    last = base.get_submodule(_LAST[kind.__name__])
    return TextEncoder(base, base.get_input_embeddings(), last, most_tokens)
