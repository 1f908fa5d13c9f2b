"""Configuration of image-conditioned prompts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args, get_type_hints

from zia_core.errors import ZiaError

POSITIVE = ("encoder_width", "bottleneck", "query_width", "blocks", "heads", "mlp_ratio")


@dataclass(frozen=True)
class VisualConfig:
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
        hints = get_type_hints(type(self))
        for field in fields(self):
            value, choices = getattr(self, field.name), get_args(hints[field.name])
            if field.name in POSITIVE and (type(value) is not int or value < 1):
                raise ZiaError(
                    f"VisualConfig.{field.name} is {value!r}; it must be a whole number >= 1."
                )
            if field.name in ("projection", "activation") and value not in choices:
                raise ZiaError(
                    f"VisualConfig.{field.name} is {value!r}; choose one of {', '.join(choices)}."
                )
        if not isinstance(self.depths, list | tuple):
            raise ZiaError(f"VisualConfig.depths is {self.depths!r}; it must be a list of layers.")
        object.__setattr__(self, "depths", tuple(self.depths))
        whole = all(type(depth) is int and depth != 0 for depth in self.depths)
        if not self.depths or not whole or len(set(self.depths)) < len(self.depths):
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
        return asdict(self) | {"depths": list(self.depths)}

    @classmethod
    def from_json(cls, record: Mapping[str, Any]) -> VisualConfig:
        """The inverse of `to_json`. Unknown names are refused: they may change the method."""
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(record) - known):
            raise ZiaError(
                f"Unknown visual setting {', '.join(unknown)}; known are "
                f"{', '.join(sorted(known))}."
            )
        return cls(**record)
