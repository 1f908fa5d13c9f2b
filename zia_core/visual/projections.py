"""The two projections from image features to vectors on the prompts.

Shape suffixes: B batch, N tokens of an image, K prompts, M encoder depths, E encoder width, W width
of the blocks, C width of the backbone, F = M * E, H heads, D head width.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from zia_core.errors import ZiaError
from zia_core.visual.config import VisualConfig

ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}


class VisualProjection(nn.Module):
    """Maps image features to vectors on the prompts; at `<model>.visual_projection`."""

    def __init__(self, config: VisualConfig) -> None:
        super().__init__()
        self.config = config

    def expected(self) -> str:
        """A description of the expected features, for messages."""
        raise NotImplementedError

    def fits(self, features: Tensor) -> bool:
        """Whether the features have the expected shape."""
        raise NotImplementedError

    def vectors(self, features: Tensor, has_image: Tensor | None) -> Tensor:
        """Vectors on the prompts, [B, C] or [B, K, C]; rows without an image are meaningless.

        They are computed anyway, so that every parameter has a gradient, possibly zero, on every
        rank: data-parallel training waits for all of them.

        Args:
            features: of any floating dtype; rows without an image are not read.
            has_image: bool [B]; None: all have one.

        Raises:
            ZiaError: features of another shape.
        """
        if not self.fits(features):
            raise ZiaError(
                f"The image features have the shape {tuple(features.shape)}; give "
                f"{self.expected()}."
            )
        features = features.to(next(self.parameters()).dtype)
        if has_image is not None:
            # Multiplying by zero would leave NaNs.
            rows = has_image.view(-1, *[1] * (features.ndim - 1))
            features = torch.where(rows, features, torch.zeros_like(features))
        return self(features)


class GlobalProjection(VisualProjection):
    """Eqs 9-10: I_p = Projection(Concat({I_m})), one vector per sample.

    Parameters: down [bottleneck, F] and up [C, bottleneck], each with a bias. At six depths of
    width 768, bottleneck 64 and C = 4096 these are 561,216.
    """

    def __init__(self, config: VisualConfig, width: int) -> None:
        super().__init__(config)
        self.down = nn.Linear(len(config.depths) * config.encoder_width, config.bottleneck)
        self.activation = ACTIVATIONS[config.activation]()
        self.up = nn.Linear(config.bottleneck, width)

    def expected(self) -> str:
        """[B, F], the depths' features concatenated."""
        depths, width = len(self.config.depths), self.config.encoder_width
        return f"[B, {depths * width}], {depths} global features of width {width} side by side"

    def fits(self, features: Tensor) -> bool:
        """[B, F]."""
        return features.ndim == 2 and features.shape[-1] == self.down.in_features

    def forward(self, features_BF: Tensor) -> Tensor:
        """[B, F] -> [B, C]."""
        return self.up(self.activation(self.down(features_BF)))


class QueryProjection(VisualProjection):
    """K queries and all image tokens through transformer blocks: K vectors per sample.

    As in the released code, without CLIP's output projection: Linear and LayerNorm to the blocks'
    width, the blocks, then Linear and LayerNorm of their first K outputs to the backbone's width.
    """

    def __init__(self, config: VisualConfig, width: int, prompt_length: int) -> None:
        super().__init__(config)
        inner = config.query_width
        self.down, self.down_norm = nn.Linear(config.encoder_width, inner), nn.LayerNorm(inner)
        self.query = nn.Parameter(torch.randn(prompt_length, inner))
        self.blocks = nn.ModuleList(
            Block(inner, config.heads, config.mlp_ratio) for _ in range(config.blocks)
        )
        self.up, self.up_norm = nn.Linear(inner, width), nn.LayerNorm(width)

    def expected(self) -> str:
        """[B, N, E], all tokens."""
        return f"[B, tokens, {self.config.encoder_width}], all tokens of one layer"

    def fits(self, features: Tensor) -> bool:
        """[B, N, E]."""
        return features.ndim == 3 and features.shape[-1] == self.down.in_features

    def forward(self, tokens_BNE: Tensor) -> Tensor:
        """[B, N, E] -> [B, K, C]."""
        tokens_BNW = self.down_norm(self.down(tokens_BNE))
        query_BKW = self.query.expand(len(tokens_BNE), -1, -1)
        x_BTW = torch.cat([query_BKW, tokens_BNW], dim=1)
        for block in self.blocks:
            x_BTW = block(x_BTW)
        return self.up_norm(self.up(x_BTW[:, : len(self.query)]))


class Block(nn.Module):
    """A pre-norm transformer block without masks or dropout, as in timm's ViTs."""

    def __init__(self, width: int, heads: int, mlp_ratio: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.qkv, self.proj = nn.Linear(width, 3 * width), nn.Linear(width, width)
        self.mlp = nn.Sequential(
            nn.Linear(width, mlp_ratio * width), nn.GELU(), nn.Linear(mlp_ratio * width, width)
        )

    def forward(self, x_BTW: Tensor) -> Tensor:
        """[B, T, W] -> [B, T, W]."""
        qkv = self.qkv(self.norm1(x_BTW)).unflatten(-1, (3, self.heads, -1))
        q_BHTD, k_BHTD, v_BHTD = qkv.permute(2, 0, 3, 1, 4)
        mixed_BHTD = functional.scaled_dot_product_attention(q_BHTD, k_BHTD, v_BHTD)
        x_BTW = x_BTW + self.proj(mixed_BHTD.transpose(1, 2).flatten(2))
        return x_BTW + self.mlp(self.norm2(x_BTW))
