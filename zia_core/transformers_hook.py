"""The hook for transformers models: a registered attention function, without copying a forward.

An adapted attention module gets its own config (a shallow copy) that names our function; the
model's config is unchanged. Masks are thus still made for the model's implementation, code that
compares the name with "sdpa" still takes that branch, other models built from the same config
object are unaffected, and `set_attn_implementation` keeps working.
"""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from zia_core.attention import PromptKV, joint_mask
from zia_core.errors import ZiaError
from zia_core.families import family_of, projection
from zia_core.layer import ZeroInit

NAME = "zero_init"
Attended = tuple[Tensor, Tensor | None]


class TextPath(nn.Module):
    """The layer's own attention, looked up in `base_config` at every call."""

    def __init__(self, attention: Any) -> None:
        super().__init__()
        self.base_config = attention.config
        # Each model file defines its own eager attention (soft-cap, scaling, ... differ).
        module = sys.modules[type(attention).__module__]
        eager: Callable[..., Attended] | None = getattr(module, "eager_attention_forward", None)
        if eager is None:
            raise ZiaError(
                f"Zero-init attention cannot be attached: {module.__name__} has no "
                f"eager_attention_forward, so its {type(attention).__name__} does not ask for an "
                "attention function; use the class of a current transformers."
            )
        self.eager = eager

    def forward(self, attention: Any, *args: Any, **kwargs: Any) -> Attended:
        """Run it, with the arguments and results of a registered attention function."""
        name = self.base_config._attn_implementation
        function = ALL_ATTENTION_FUNCTIONS.get_interface(name, self.eager)
        if name not in ("eager", "sdpa", "flex_attention"):
            # Flash attention reads its name from `attention.config`, where ours is now.
            attention = _WithConfig(attention, self.base_config)
        return function(attention, *args, **kwargs)


class TransformersZeroInit(ZeroInit):
    """`ZeroInit` for transformers, called by the registered attention function."""

    text: TextPath

    def check(self, attention: Any) -> None:
        """Find the layer's own attention, or refuse the layer."""
        if (family := family_of(attention)) is not None:
            family.check(attention)
        self.text = TextPath(attention)

    def install(self, attention: Any) -> None:
        """Make an attention module dispatch to `zero_init_attention`; call `check` first."""
        attention.zero_init = self
        attention.config = copy.copy(attention.config)
        # The public setter would also switch the sub-configs, which the copy shares.
        attention.config._attn_implementation_internal = NAME

    def uninstall(self, attention: Any) -> None:
        """Undo `install`."""
        attention.config = self.text.base_config
        del attention.zero_init


class _WithConfig:
    """A view of a module with a different `config`."""

    def __init__(self, module: nn.Module, config: Any) -> None:
        self._module, self.config = module, config

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


def zero_init_attention(
    attention: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Any,
    scaling: float | None = None,
    dropout: float = 0.0,
    **kwargs: Any,
) -> Attended:
    """The registered attention function: the text path plus the gated prompt term.

    Args:
        attention: a module with a `zero_init` child.
        query: [B, H, T, D], after rotary embedding.
        key: [B, G, S, D], cache included.
        value: [B, G, S, D].
        attention_mask: as the text path's implementation takes it.
        scaling: score scale, 1/sqrt(D) if None.
        dropout: attention dropout, for words and prompts.
        kwargs: further arguments of the text path.

    Returns:
        [B, T, H, D], and the text path's attention weights if it returns them.
    """
    layer: TransformersZeroInit = attention.zero_init
    kwargs |= {"scaling": scaling, "dropout": dropout}
    adapter = layer.in_use()
    if adapter is None:
        return layer.text(attention, query, key, value, attention_mask, **kwargs)
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    batch = len(query)
    samples = batch if query.shape[-2] == 1 else 1
    fused = adapter.is_fused(query, dropout)
    prompts = adapter(projection(attention), query.dtype, batch, samples, fused)
    if layer.config.softmax == "joint":
        return _joint(attention, query, key, value, attention_mask, prompts, kwargs)
    text_BTHD, weights = layer.text(attention, query, key, value, attention_mask, **kwargs)
    softcap = kwargs.get("softcap")
    # Other attention functions may return a view of their input. For one query per sample, the
    # check takes longer than it saves.
    own = samples == 1 and layer.text.base_config._attn_implementation in ("eager", "sdpa")
    both_BTHD = adapter.both_terms(text_BTHD, query, prompts, scale, softcap, dropout, own)
    return both_BTHD, weights


def _joint(
    attention: Any,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    mask: Any,
    prompts: PromptKV,
    kwargs: dict[str, Any],
) -> Attended:
    """One softmax: prompts become the first keys of the backbone's own attention."""
    layer: TransformersZeroInit = attention.zero_init
    name = layer.text.base_config._attn_implementation
    if name not in ("eager", "sdpa"):
        raise ZiaError(
            f"softmax='joint' needs the attention implementation eager or sdpa, not {name}; "
            "call model.set_attn_implementation('sdpa')."
        )
    causal = kwargs.get("is_causal")
    causal = getattr(attention, "is_causal", True) if causal is None else causal
    length = layer.config.prompt_length
    # Without a mask, eager attention attends to everything.
    mask = joint_mask(mask, query, key, length, causal and name == "sdpa")
    if mask is None:
        kwargs["is_causal"] = False
    batch = (query.shape[0], -1, -1, -1)
    keys = torch.cat([prompts.key.expand(batch), key], dim=-2)
    values = torch.cat([prompts.value.expand(batch), value], dim=-2)
    return layer.text(attention, query, keys, values, mask, **kwargs)


def _mask_as_sdpa(*args: Any, **kwargs: Any) -> Any:
    return ALL_MASK_ATTENTION_FUNCTIONS["sdpa"](*args, **kwargs)


# transformers makes no mask for a name without a mask function. No model's config has our name, but
# code that makes a mask from an attention module's config must not silently attend to padding.
AttentionInterface.register(NAME, zero_init_attention)
AttentionMaskInterface.register(NAME, _mask_as_sdpa)
