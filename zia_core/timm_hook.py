"""The hook for timm models: intercept submodules of the attention's own forward pass.

timm has no attention registry, but the `Attention.forward` of its ViTs passes queries through
`q_norm` and the attended values through `norm` (an `nn.Identity` if unused). We run it on a view of
the module that intercepts both. Every call has its own view, so threads may share an attention
module. BEiT and Swin have neither: there we intercept `proj`, and compute queries a second time.
"""

from __future__ import annotations

from functools import partial
from typing import Any

from torch import Tensor

from zia_core.attention import PromptKV, joint_mix
from zia_core.errors import ZiaError
from zia_core.families import timm_projection, timm_qkv, timm_width
from zia_core.layer import ZeroInit


class TimmZeroInit(ZeroInit):
    """`ZeroInit` for timm, which replaces the `forward` of its attention module."""

    def check(self, attention: Any) -> None:
        """Refuse a module whose `forward` is already replaced: that one would not run."""
        if "forward" in attention.__dict__:
            raise ZiaError(
                f"The forward pass of a {type(attention).__name__} was replaced (by accelerate's "
                "hooks, say); attach zero-init attention first."
            )
        if self.config.softmax == "joint" and not hasattr(attention, "norm"):
            raise ZiaError(
                f"softmax='joint' is not for timm's {type(attention).__name__} with a relative "
                "position bias; use softmax='separate'."
            )

    def install(self, attention: Any) -> None:
        """Make a timm attention module run our forward pass."""
        attention.zero_init = self
        # Neither a closure nor a bound method: deepcopy and pickle rebind it to the copy.
        attention.__dict__["forward"] = partial(_forward, attention)

    def uninstall(self, attention: Any) -> None:
        """Undo `install`."""
        # A hook installed later, as by accelerate, wraps ours: leave it, `_forward` then passes on.
        if getattr(attention.__dict__.get("forward"), "func", None) is _forward:
            del attention.__dict__["forward"]
        del attention.zero_init


def _forward(attention: Any, x: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    """[B, N, C] -> [B, N, C]; takes the arguments of the attention's own `forward`."""
    own_forward = type(attention).forward
    if "zero_init" not in attention._modules:
        return own_forward(attention, x, *args, **kwargs)
    layer: ZeroInit | None = attention.zero_init.in_use()
    if layer is None:
        return own_forward(attention, x, *args, **kwargs)
    dropout = attention.attn_drop.p if attention.training else 0.0
    if layer.config.softmax == "joint":
        if args or kwargs.get("attn_mask") is not None or kwargs.get("is_causal"):
            raise ZiaError("softmax='joint' on a timm model takes no attention mask; leave it out.")
        if dropout:
            raise ZiaError("softmax='joint' on a timm model needs attn_drop_rate=0; build it so.")
    # There are no queries yet; the input has their dtype.
    fused = layer.is_fused(x, dropout)
    prompts = layer(timm_projection(attention), x.dtype, len(x), fused=fused)
    if hasattr(attention, "norm"):
        return own_forward(_Pass(attention, layer, prompts, dropout), x, *args, **kwargs)
    biased = _BiasedPass(attention, layer, prompts, dropout)
    biased.keep_queries(x)
    return own_forward(biased, x, *args, **kwargs)


class _Pass:
    """A view of a ViT's attention for one forward pass that adds the prompt term."""

    def __init__(self, attention: Any, layer: ZeroInit, prompts: PromptKV, dropout: float) -> None:
        self._attention, self._layer = attention, layer
        self._prompts, self._dropout = prompts, dropout

    def __getattr__(self, name: str) -> Any:
        return getattr(self._attention, name)

    def q_norm(self, query: Tensor) -> Tensor:
        """Record the queries [B, H, N, D] as the text path sees them."""
        self._query: Tensor = self._attention.q_norm(query)
        return self._query

    def k_norm(self, key: Tensor) -> Tensor:
        """Record the keys [B, H, N, D], for the joint softmax."""
        self._key: Tensor = self._attention.k_norm(key)
        return self._key

    def norm(self, text: Tensor) -> Tensor:
        """Add the prompt term to the text attention [B, N, H*D], before norm and projection."""
        attention, layer = self._attention, self._layer
        if layer.config.softmax == "separate":
            mixed = self._with_prompts(text)
        else:
            text_BHND = text.unflatten(2, (layer.geometry.heads, -1)).transpose(1, 2)
            mixed_BHND = joint_mix(
                text_BHND, self._query, self._key, self._prompts, attention.scale
            )
            mixed = mixed_BHND.transpose(1, 2).flatten(2)
        result: Tensor = attention.norm(mixed)
        return result

    def _with_prompts(self, text: Tensor) -> Tensor:
        layer, scale = self._layer, self._attention.scale
        text_BNHD = text.unflatten(2, (layer.geometry.heads, -1))
        both = layer.both_terms(
            text_BNHD, self._query, self._prompts, scale, dropout=self._dropout, overwrite=True
        )
        return both.flatten(2).to(text.dtype)


class _BiasedPass(_Pass):
    """The same for attention with a relative position bias, which prompts have no part in."""

    def keep_queries(self, x: Tensor) -> None:
        """Compute the queries [B, H, N, D] of the input [B, N, C]."""
        flat = timm_qkv(self._attention, x, slice(timm_width(self._attention)))
        self._query = flat.unflatten(-1, (self._attention.num_heads, -1)).transpose(1, 2)

    def proj(self, text: Tensor) -> Tensor:
        """Add the prompt term to the text attention [B, N, H*D], before the projection."""
        result: Tensor = self._attention.proj(self._with_prompts(text))
        return result
