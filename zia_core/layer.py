"""Prompts and gates of one layer, and their keys and values in a forward pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, nn

from zia_core import kernel_choice
from zia_core.attention import PromptKV, add_to_one_query, prompt_term
from zia_core.call_state import DEFAULT, CallState, Condition, Rows, call_state
from zia_core.config import ZeroInitConfig
from zia_core.errors import ZiaError
from zia_core.prompt_rows import by_row

# Hidden prompts [..., K, C] -> their keys and values [..., G, K, D], by the layer's frozen weights.
Projection = Callable[[Tensor], tuple[Tensor, Tensor]]


@dataclass(frozen=True)
class Geometry:
    """The sizes of one attention layer, for `register_family`.

    Attributes:
        width: C, width of the hidden states.
        heads: H, query heads.
        kv_heads: G, key-value heads; equal to `heads` without grouped queries.
        head_dim: D.
        linear_scores: whether scores are linear in the prompts: no key norm, no soft-cap.
    """

    width: int
    heads: int
    kv_heads: int
    head_dim: int
    linear_scores: bool


class ZeroInit(nn.Module):
    """Prompts and gates of one attention layer, at `<attention>.zero_init`.

    Parameters (float32, or float64 on a float64 backbone):
        prompt: [K, C] for hidden prompts; [2, K, G*D], keys and values, for `key_value` ones.
        gate: [H] or [1]; absent with the joint softmax.

    Further adapters of the layer are in `named`, each a `ZeroInit` whose `owner` is this one.
    """

    owner: ZeroInit | None = None  # in `__dict__`, since a parent cannot be a child of its child

    def __init__(
        self, config: ZeroInitConfig, geometry: Geometry, device: torch.device, dtype: torch.dtype
    ) -> None:
        super().__init__()
        self.config, self.geometry = config, geometry
        length, kv_width = config.prompt_length, geometry.kv_heads * geometry.head_dim
        hidden = config.prompt_source == "hidden"
        shape = (length, geometry.width) if hidden else (2, length, kv_width)
        self.untrainable = False  # True if the backbone's weights are inference tensors
        self.prompt = nn.Parameter(torch.empty(shape, device=device, dtype=dtype))
        nn.init.normal_(self.prompt, std=config.prompt_std)
        if config.softmax == "separate":
            gates = geometry.heads if config.gate_per == "head" else 1
            start = torch.full((gates,), float(config.gate_init), device=device, dtype=dtype)
            self.gate = nn.Parameter(start)

    @property
    def state(self) -> CallState:
        """The state set by enclosing blocks: `condition`, `frozen_prompts`, `observed`, `use`.

        It belongs to this thread or task, and is not an attribute: other calls run concurrently.
        """
        return call_state(self if self.owner is None else self.owner)

    @property
    def condition(self) -> Condition | None:
        """The condition of the current call."""
        return self.state.condition

    def in_use(self) -> ZeroInit | None:
        """What computes the prompts of the current call; None if nothing is to be added."""
        adapter = self.state.adapter
        if isinstance(adapter, Rows):  # combined by this layer
            return self if any(self.adapter(name) is not None for name in adapter.of) else None
        return self.adapter(adapter)

    def adapter(self, name: str | None) -> ZeroInit | None:
        """An adapter's prompts and gates in this layer; None if it has none."""
        if name == DEFAULT:
            return self
        return None if name is None else self.others().get(name)

    def others(self) -> dict[str, ZeroInit]:
        """The adapters that were added to this layer, by name; to be changed in place."""
        named: Any = self._modules.get("named")
        return {} if named is None else named._modules

    def strength(self) -> Tensor:
        """a(g): [H] or [1]."""
        return torch.tanh(self.gate) if self.config.gate_activation == "tanh" else self.gate

    def is_fused(self, q: Tensor, dropout: float) -> bool:
        """Whether queries like q, [..., D] or [..., C], use the fused kernel.

        A single query per sample does so only if forced: `add_to_one_query` launches faster.
        """
        if self.config.softmax == "joint" or isinstance(self.state.adapter, Rows):
            return False  # the kernel has no gates per sample
        if q.shape[-2] == 1 and not torch.is_grad_enabled() and kernel_choice.is_automatic():
            return False
        sizes = self.config.prompt_length, self.geometry.head_dim
        return kernel_choice.is_fused(q, *sizes, dropout, observed=self.state.observer is not None)

    def both_terms(
        self,
        text_BTHD: Tensor,
        q_BHTD: Tensor,
        prompts: PromptKV,
        scale: float,
        softcap: float | None = None,
        dropout: float = 0.0,
        overwrite: bool = False,
    ) -> Tensor:
        """Text plus gated prompt term, [B, T, H, D], in the form that `prompts` were made for.

        With `overwrite` and autograd off, the sum may be written to `text_BTHD`: on a CPU,
        allocating memory takes longer than adding.
        """
        if prompts.strength is not None:
            from zia_core.fused_term import add_prompt_term

            key, value, strength = prompts.key, prompts.value, prompts.strength
            return add_prompt_term(text_BTHD, q_BHTD, key, value, strength, scale, softcap)
        if q_BHTD.is_cuda and self._is_simple(text_BTHD, q_BHTD, prompts, softcap, dropout):
            return add_to_one_query(text_BTHD, q_BHTD, prompts, scale)
        term_BTHD = prompt_term(q_BHTD, prompts, scale, softcap, dropout).transpose(1, 2)
        if (observer := self.state.observer) is not None:
            observer(text_BTHD, term_BTHD)
        if overwrite and not torch.is_grad_enabled() and text_BTHD.dtype == term_BTHD.dtype:
            return text_BTHD.add_(term_BTHD)
        return text_BTHD + term_BTHD

    def _is_simple(
        self, text: Tensor, q: Tensor, prompts: PromptKV, softcap: float | None, dropout: float
    ) -> bool:
        """Whether this is an ordinary step of generation, which `add_to_one_query` supports."""
        return (
            q.shape[-2] == 1
            and kernel_choice.is_automatic()
            and prompts.key.ndim == 4
            and prompts.shift is None
            and prompts.unconditioned is None
            and prompts.padding is None
            and softcap is None
            and dropout == 0.0
            and text.dtype == q.dtype
            and not torch.is_grad_enabled()
            and self.state.observer is None
        )

    def forward(
        self,
        project: Projection,
        dtype: torch.dtype,
        batch: int,
        samples: int = 1,
        fused: bool = False,
    ) -> PromptKV:
        """The prompts' keys and gated values, computed once per forward pass.

        They are cached across passes only inside `frozen_prompts` and with autograd off: a cache
        that outlived its call would later train on stale prompts without gradients.

        Args:
            project: projection by the layer's frozen weights.
            dtype: of the queries.
            batch: B, samples in this pass.
            samples: copies of shared prompts to cache for products with queries [samples, H, T, D].
                Otherwise each product copies them, which for one query per sample takes longer
                than the product itself.
            fused: return them as the kernel takes them: per key-value head, with separate gates.

        Raises:
            ZiaError: the condition or the adapters of rows have another batch size, or the
                backbone is made of inference tensors and autograd is on.
        """
        if self.untrainable and torch.is_grad_enabled() and self.prompt.requires_grad:
            raise ZiaError(
                "The backbone was made inside torch.inference_mode, so nothing can be trained "
                "through it; make it outside, or run this inside torch.no_grad()."
            )
        state = self.state
        self._check_batch(state, batch)
        if state.cache is None or torch.is_grad_enabled():
            return self._dropped(self._prompts(state, project, dtype, fused), batch)
        # An optimiser step or load in the meantime changes the version counters.
        versions = map(_version, self.parameters())
        made_from = (self, dtype, fused, state.condition, state.adapter, *versions)
        cached = state.cache.prompts
        if cached is None or cached[0] != made_from:
            cached = (made_from, {1: self._prompts(state, project, dtype, fused)})
            state.cache.prompts = cached
        by_samples = cached[1]
        if samples not in by_samples:
            by_samples[samples] = self._copied(by_samples[1], samples)
        return self._dropped(by_samples[samples], batch)

    def _check_batch(self, state: CallState, batch: int) -> None:
        condition, rows = state.condition, state.adapter
        if isinstance(rows, Rows) and len(rows.order) != batch:
            raise ZiaError(
                f"Adapters are named for {len(rows.order)} rows and the batch has {batch} samples; "
                "name one per sample (beams and returned sequences count)."
            )
        if condition is not None and len(condition.vectors) != batch:
            raise ZiaError(
                f"The condition has {len(condition.vectors)} rows and the batch {batch} samples; "
                "give one row per sample (beams and returned sequences count: repeat_interleave)."
            )

    def _prompts(
        self, state: CallState, project: Projection, dtype: torch.dtype, fused: bool
    ) -> PromptKV:
        """The prompts of all rows: of one adapter, or of each row's own."""
        condition, rows = state.condition, state.adapter
        if not isinstance(rows, Rows):
            return self._compute(condition, project, dtype, fused)
        parts: list[tuple[PromptKV | None, int]] = []
        for name, numbers in rows.of.items():
            adapter = self.adapter(name)
            own = None if condition is None else condition.of_rows(numbers)
            part = None if adapter is None else adapter._compute(own, project, dtype, fused)
            parts.append((part, len(numbers)))
        return by_row(parts, rows.order)

    def _compute(
        self, condition: Condition | None, project: Projection, dtype: torch.dtype, fused: bool
    ) -> PromptKV:
        prompt = self.prompt.to(dtype)
        if self.config.prompt_source == "key_value":
            if condition is not None:
                raise ZiaError(
                    "A condition is added to hidden prompts and prompt_source='key_value' has "
                    "none; use prompt_source='hidden'."
                )
            key, value = (
                part.view(-1, self.geometry.kv_heads, self.geometry.head_dim).transpose(0, 1)
                for part in prompt
            )
        else:
            key, value = project(prompt)
        if condition is not None:
            return self._conditioned(condition, project, prompt, key, value, fused)
        return self._finished(key, value, fused)

    def _dropped(self, prompts: PromptKV, batch: int) -> PromptKV:
        """Apply P-tuning v2's `prefix_dropout`, if the layer has one."""
        dropout = self._modules.get("dropout")
        return prompts if dropout is None else dropout(prompts, batch)

    def _copied(self, prompts: PromptKV, samples: int) -> PromptKV:
        """Shared keys and values as [samples, H, K, D], in the layout of a broadcast product."""
        if self.config.softmax == "joint" or prompts.key.ndim == 4 or prompts.strength is not None:
            return prompts
        size = (samples, -1, -1, -1)
        key = prompts.key.transpose(-1, -2).expand(size).contiguous().transpose(-1, -2)
        return replace(prompts, key=key, value=prompts.value.expand(size).contiguous())

    def _finished(self, key_GKD: Tensor, value_GKD: Tensor, fused: bool) -> PromptKV:
        if self.config.softmax == "joint":
            return PromptKV(key_GKD, value_GKD)
        if fused:
            return PromptKV(key_GKD, value_GKD, strength=self.strength())
        return PromptKV(self._per_head(key_GKD), self._gated(value_GKD))

    def _conditioned(
        self,
        condition: Condition,
        project: Projection,
        prompt: Tensor,
        key: Tensor,
        value: Tensor,
        fused: bool,
    ) -> PromptKV:
        """Keys and values of the prompts P + I, given `key` and `value` of P."""
        image, present = condition.to(prompt.dtype)
        separate = self.config.softmax == "separate"
        if separate and image.shape[1] == 1 and self.geometry.linear_scores:
            # W_k (P + I) = W_k P + W_k I adds the same score q.W_k I to all K prompts, so their
            # softmax does not change. Keys stay shared over the batch; only W_v I is per sample.
            pair = project(torch.cat([image, torch.zeros_like(image)], dim=1))[1]
            shift = pair[..., :1, :] - pair[..., 1:, :]  # removes the projection's bias
            if present is not None:
                shift = torch.where(present, shift, torch.zeros_like(shift))
            if fused:  # weights sum to one, so the shift may be added to every prompt's value
                return self._finished(key, value + shift, fused)
            return PromptKV(self._per_head(key), self._gated(value), self._gated(shift))
        own_key, own_value = project(prompt + image)  # [B, G, K, D]
        if present is None:
            return self._finished(own_key, own_value, fused)
        if separate and not fused:
            own, plain = (
                self._finished(*pair, fused) for pair in ((own_key, own_value), (key, value))
            )
            return PromptKV(own.key, own.value, unconditioned=plain, conditioned=present)
        # The joint softmax copies prompts for every sample anyway, and the kernel computes samples
        # identically whether prompts are shared or not.
        own_key, own_value = (
            torch.where(present, own, shared)
            for own, shared in ((own_key, key), (own_value, value))
        )
        return self._finished(own_key, own_value, fused)

    def _per_head(self, x_GKD: Tensor) -> Tensor:
        groups = self.geometry.heads // self.geometry.kv_heads
        return x_GKD if groups == 1 else x_GKD.repeat_interleave(groups, dim=-3)

    def _gated(self, value_GKD: Tensor) -> Tensor:
        """Fold the gate into V_p: K*D products per head instead of T*D, and nothing large saved."""
        value_HKD = self._per_head(value_GKD)
        # A float32 product with a half-precision operand, which is what autograd saves.
        return (self.strength()[:, None, None] * value_HKD).to(value_HKD.dtype)


def _version(parameter: nn.Parameter) -> tuple[torch.device, int]:
    """Device and version counter, which changes with every write (-1 for inference tensors)."""
    return parameter.device, -1 if parameter.is_inference() else parameter._version
