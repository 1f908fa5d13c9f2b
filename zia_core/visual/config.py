"""Configuration of image-conditioned prompts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from zia_core.config import Config
from zia_core.errors import ZiaError


@dataclass(frozen=True)
class VisualConfig(Config):
    """Configuration of `attach_visual`: the path from frozen image features to the prompts.

    The paper gives no depths, widths or activation. The defaults of ``global`` are ours (the
    paper's 0.6M parameters would be a bottleneck of 64 at six depths of width 768); those of
    ``queries`` are the released caption demo's, with heads and MLP ratio of the later release.

    Attributes:
        encoder_width: E, channels of the encoder's features.
        projection: ``global``: eqs 9-10. Global features of several depths are concatenated and
            pass a bottleneck MLP; one vector for all prompts of all layers. ``queries``: the
            released code. K learned query tokens and all image tokens pass transformer blocks; one
            vector per prompt. Unlike there, tokens are used as the encoder's layer returns them,
            without CLIP's output projection (1,024 to 768 channels for ViT-L/14).
        depths: the encoder's layers to use, counted from 1 up or from -1 down. ``queries`` takes
            one.
        bottleneck: hidden width of the MLP (``global``).
        activation: of the MLP (``global``); the blocks use GELU.
        query_width: width of the blocks (``queries``).
        blocks: number of blocks (``queries``).
        heads: attention heads per block (``queries``).
        mlp_ratio: hidden width of the blocks' MLPs over `query_width` (``queries``).

    Raises:
        ZiaError: a field of another type, a size below 1, `depths` that do not fit the projection,
            or `query_width` that is not a multiple of `heads`.
    """

    encoder_width: int
    projection: Literal["global", "queries"] = "global"
    depths: tuple[int, ...] = (-1,)
    bottleneck: int = 64
    activation: Literal["gelu", "relu", "silu"] = "gelu"
    query_width: int = 512
    blocks: int = 2
    heads: int = 16
    mlp_ratio: int = 4

    def __post_init__(self) -> None:
        super().__post_init__()
        object.__setattr__(self, "depths", tuple(self.depths))
        if not self.depths or 0 in self.depths or len(set(self.depths)) < len(self.depths):
            raise ZiaError(
                f"VisualConfig.depths is {self.depths!r}; name different layers, from 1 up or from "
                "-1 down."
            )
        if self.projection == "queries" and len(self.depths) > 1:
            raise ZiaError(
                f"VisualConfig.depths is {self.depths!r}; projection='queries' takes the tokens of "
                "one layer."
            )
        if self.query_width % self.heads:
            raise ZiaError(
                f"VisualConfig.query_width is {self.query_width}; it must be a multiple of "
                f"heads={self.heads}."
            )

    def to_json(self) -> dict[str, Any]:
        """All fields as JSON values, defaults included."""
        return super().to_json() | {"depths": list(self.depths)}
