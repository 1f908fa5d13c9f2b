"""A frozen image encoder: its tokens at each depth, and its identity."""

import hashlib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from experiments.images.protocols import Protocol
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn

# The norm after the last layer and the class token, as transformers' ViTs name them.
LAST_NORMS = ("post_layernorm", "layernorm", "norm")
CLASS_TOKENS = ("class_embedding", "cls_token")


@dataclass(frozen=True)
class Encoder:
    """A frozen ViT: `width` channels, `depth` layers, images prepared by `protocol`."""

    name: str
    model: "nn.Module"
    protocol: Protocol
    width: int
    depth: int
    weights: dict[str, str]  # SHA-256 of every weight file by its name
    # Its configuration: weights and text of a model do not tell, say, the number of heads.
    made_from: dict[str, Any]

    def layer(self, depth: int) -> int:
        """`depth` as a layer from 1; -1 is the last. ZiaError if there is none."""
        found = depth + self.depth + 1 if depth < 0 else depth
        if not 1 <= found <= self.depth:
            raise ZiaError(f"{self.name} has {self.depth} layers, and none at depth {depth}")
        return found

    def tokens(self, pixels: "Tensor", depths: Sequence[int]) -> "list[Tensor]":
        """All tokens after the layers, (B, T, width) each; a class token comes first.

        The encoder's last norm is applied at every depth, so that all have one scale (ours).
        """
        layers = [self.layer(depth) for depth in depths]
        model: Any = self.model
        if hasattr(model, "forward_intermediates"):
            return self._tokens_of_timm(pixels, layers)
        states = model(pixel_values=pixels, output_hidden_states=True).hidden_states
        norm = next(getattr(model, name) for name in LAST_NORMS if hasattr(model, name))
        return [norm(states[layer]) for layer in layers]

    def _tokens_of_timm(self, pixels: "Tensor", layers: list[int]) -> "list[Tensor]":
        from torch import cat

        model: Any = self.model
        wanted = sorted(set(layers))  # the order of timm's result
        found = model.forward_intermediates(
            pixels,
            indices=[layer - 1 for layer in wanted],
            norm=True,
            output_fmt="NLC",
            return_prefix_tokens=True,
            intermediates_only=True,
        )
        if model.num_prefix_tokens:
            found = [cat([prefix, spatial], dim=1) for spatial, prefix in found]
        by_layer = dict(zip(wanted, found, strict=True))
        return [by_layer[layer] for layer in layers]

    def summary(self, tokens: "Tensor") -> "Tensor":
        """The global feature of each image (B, width).

        It is the class token or, in an encoder without one, the mean over the patches, which follow
        the registers.
        """
        model: Any = self.model
        inputs = getattr(model, "embeddings", model)  # transformers', timm's
        if any(getattr(inputs, name, None) is not None for name in CLASS_TOKENS):
            return tokens[:, 0]
        return tokens[:, getattr(model, "num_prefix_tokens", 0) :].mean(dim=1)

    def identity(self) -> dict[str, Any]:
        """All that the features depend on: architecture, weights, preprocessing."""
        digest = hashlib.sha256(repr(self.model).encode())
        for name, tensor in sorted(self.model.state_dict().items()):
            digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} ".encode())
            digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
        return {
            "encoder": digest.hexdigest(),
            "made_from": self.made_from,
            "input": asdict(self.protocol),
        }


def encoder_of(
    name: str,
    model: Any,
    protocol: Protocol,
    weights: dict[str, str],
    made_from: dict[str, Any],
) -> Encoder:
    """Freeze a ViT of timm or transformers; ZiaError if its layers cannot be read."""
    config: Any = getattr(model, "config", None)
    if hasattr(model, "forward_intermediates") and hasattr(model, "blocks"):
        width, depth = int(model.embed_dim), len(model.blocks)
    elif hasattr(config, "num_hidden_layers") and any(hasattr(model, n) for n in LAST_NORMS):
        width, depth = int(config.hidden_size), int(config.num_hidden_layers)
    else:
        raise ZiaError(f"{name} ({type(model).__name__}) is not a ViT whose layers can be read")
    model.requires_grad_(False).eval()
    return Encoder(name, model, protocol, width, depth, weights, made_from)
