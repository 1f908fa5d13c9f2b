"""The hook for timm ViTs: module hooks around one attention, no copied forward.

timm has no attention registry, but its `Attention.forward` passes the queries through `q_norm` and
the attended values through `norm` (both an `nn.Identity` where unused), with the kernel between.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from zia_core.attention import PromptKV, joint_mix, prompt_term
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.families import timm_projection
from zia_core.layer import Geometry, ZeroInit


class TimmZeroInit(ZeroInit):
    """`ZeroInit` whose forward pass is driven by hooks.

    The hooks are bound methods, so that deepcopy of an adapted model rebinds them to the copy.
    """

    def __init__(
        self, config: ZeroInitConfig, geometry: Geometry, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__(config, geometry, device, dtype)
        self.passing: dict[str, Any] = {}  # what the hooks of one pass tell each other

    def begin(self, attention: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Before the attention: prompts of this pass."""
        masked = kwargs.get("attn_mask") is not None or kwargs.get("is_causal") or len(args) > 1
        if masked and self.config.softmax == "joint":
            raise ZiaError("softmax='joint' on a timm model takes no attention mask; leave it out.")
        dropout = attention.attn_drop.p if attention.training else 0.0
        if dropout and self.config.softmax == "joint":
            raise ZiaError("softmax='joint' on a timm model needs attn_drop_rate=0; build it so.")
        self.check_batch(len(args[0]))
        # The queries' dtype is not known yet; the input's is the one that the weights meet.
        prompts = self.keys_values(timm_projection(attention), args[0].dtype)
        self.passing = {
            "prompts": prompts,
            "scale": attention.scale,
            "dropout": dropout,
        }

    def see_query(self, module: nn.Module, args: Any, query: Tensor) -> None:
        """After the query norm: q [B, H, N, D]."""
        self.passing["query"] = query

    def see_key(self, module: nn.Module, args: Any, key: Tensor) -> None:
        """After the key norm: k [B, H, N, D]; only the joint softmax needs it."""
        self.passing["key"] = key

    def add_term(self, module: nn.Module, args: tuple[Tensor]) -> tuple[Tensor]:
        """Before the output norm and projection: adds to the text attention [B, N, H*D]."""
        text, now = args[0], self.passing
        self.passing = {}
        prompts: PromptKV = now["prompts"]
        query: Tensor = now["query"]
        if self.config.softmax == "separate":
            term = prompt_term(query, prompts, now["scale"], None, now["dropout"])
            if self.observer is not None:
                words_BNHD = text.unflatten(2, (self.geometry.heads, -1))
                self.observer(words_BNHD, term.transpose(1, 2))
            return (text + term.transpose(1, 2).flatten(2).to(text.dtype),)
        text_BHND = text.unflatten(2, (self.geometry.heads, -1)).transpose(1, 2)
        mixed = joint_mix(text_BHND, query, now["key"], prompts, now["scale"])
        return (mixed.transpose(1, 2).flatten(2),)

    def install(self, attention: Any) -> None:
        """Hook a timm attention module."""
        attention.zero_init = self
        attention.register_forward_pre_hook(self.begin, with_kwargs=True)
        attention.q_norm.register_forward_hook(self.see_query)
        if self.config.softmax == "joint":
            attention.k_norm.register_forward_hook(self.see_key)
        attention.norm.register_forward_pre_hook(self.add_term)

    def uninstall(self, attention: Any) -> None:
        """Undo `install`: hooks are found by their owner, which also works on a deep copy."""
        for module in (attention, attention.q_norm, attention.k_norm, attention.norm):
            for hooks in (module._forward_pre_hooks, module._forward_hooks):
                for key in [k for k, h in hooks.items() if getattr(h, "__self__", None) is self]:
                    del hooks[key]
                    module._forward_pre_hooks_with_kwargs.pop(key, None)
        del attention.zero_init
