"""Check a family against its own model: the reference asks the real layer for the prompts' keys.

Nothing of `zia_core` is used in the reference. A bare model runs a naive attention that, for every
adapted layer, first runs the layer's own forward pass on the prompts, each as the first token of a
sequence, where a rotary embedding is the identity; the keys and values that arrive at the attention
function are the prompts'.
"""

import functools
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import torch
from torch import Tensor, nn
from transformers import AttentionInterface
from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS, AttentionMaskInterface

from tests.zia_core.backbones import open_gates
from tests.zia_core.family_models import Model, build, run
from zia_core import ZeroInitConfig, attach, zero_init_layers
from zia_core.families import attention_layers, projection, timm_projection

PROMPTS = 3  # at most the samples of a batch


@dataclass
class Errors:
    """Largest differences from the reference, relative to its largest value.

    The models are in float64.

    Attributes:
        projections: of the prompts' keys and values.
        output: of the model's output, with open gates.
        gradients: of prompts and gates.
        cached: of a decoder's logits, token by token with a cache.
        bitwise: whether at zero gates the output is the bare model's.
        attention: the attention class, with its module if that is timm's.
    """

    projections: float
    output: float
    gradients: float
    cached: float | None
    bitwise: bool
    attention: str

    def within(self, tolerance: float) -> bool:
        errors = (self.projections, self.output, self.gradients, self.cached or 0.0)
        return self.bitwise and all(error < tolerance for error in errors)


@dataclass
class Reference:
    """Parameters of one layer as leaves, and what its own projections make of the prompts."""

    prompt: Tensor
    gate: Tensor
    capturing: bool = False
    key: Tensor = field(default_factory=lambda: torch.empty(0))  # [G, K, D]
    value: Tensor = field(default_factory=lambda: torch.empty(0))


@functools.cache
def check(model: Model) -> Errors:
    """Attach to the model and compare."""
    config = ZeroInitConfig(prompt_length=PROMPTS, num_layers=2)
    bare = build(model)
    plain = run(bare, model)
    ours = attach(build(model), config)
    bitwise = torch.equal(run(ours, model), plain)
    open_gates(ours)
    names = [layer.name for layer in attention_layers(bare)[-config.num_layers :]]
    references = {
        name: Reference(*(leaf(p) for p in (layer.prompt, layer.gate)))
        for name, layer in zip(names, zero_init_layers(ours), strict=True)
    }
    result = run(ours, model)
    weight = torch.randn(result.shape, generator=torch.Generator().manual_seed(3)).double()
    (result * weight).sum().backward()
    with naive(bare, references):
        expected = run(bare, model)
    (expected * weight).sum().backward()
    assert difference(expected, plain) > 1e-3, "the prompts change nothing"
    projections, gradients = [], []
    for name, layer in zip(names, zero_init_layers(ours), strict=True):
        reference, attention = references[name], ours.get_submodule(name)
        project = timm_projection if "timm" in type(attention).__module__ else projection
        for mine, real in zip(
            project(attention)(layer.prompt), (reference.key, reference.value), strict=True
        ):
            projections.append(difference(mine, real))
        gradients.append(difference(layer.prompt.grad, reference.prompt.grad))
        gradients.append(difference(layer.gate.grad, reference.gate.grad))
    kind = type(ours.get_submodule(names[0]))
    return Errors(
        max(projections),
        difference(result, expected),
        max(gradients),
        cached_error(ours) if model.kind == "decoder" else None,
        bitwise,
        f"{kind.__module__}.{kind.__name__}" if "timm" in kind.__module__ else kind.__name__,
    )


def leaf(parameter: Tensor) -> Tensor:
    return parameter.detach().clone().requires_grad_()


def difference(ours: Tensor | None, reference: Tensor | None) -> float:
    assert ours is not None
    assert reference is not None
    assert ours.shape == reference.shape
    ours, reference = ours.detach(), reference.detach()
    return float((ours - reference).abs().max() / reference.abs().max())


@torch.no_grad()
def cached_error(made: Any) -> float:
    """Logits of five tokens and then one at a time, against those of all at once."""
    ids = torch.randint(3, 61, (2, 9), generator=torch.Generator().manual_seed(5))
    whole = made(input_ids=ids, use_cache=False).logits
    step = made(input_ids=ids[:, :5], use_cache=True)
    found = [step.logits]
    for position in range(5, 9):
        token = ids[:, position : position + 1]
        step = made(input_ids=token, past_key_values=step.past_key_values, use_cache=True)
        found.append(step.logits)
    return difference(torch.cat(found, dim=1), whole)


def attend(q: Tensor, k: Tensor, v: Tensor, scale: float, cap: float | None, extra: Any) -> Tensor:
    """softmax(q k^T * scale + extra) v with few key-value heads; `extra` may add columns."""
    groups = q.shape[1] // k.shape[-3]
    k, v = (x.repeat_interleave(groups, dim=-3) for x in (k, v))
    scores = q @ k.transpose(-1, -2) * scale
    if cap is not None:
        scores = cap * torch.tanh(scores / cap)
    return extra(scores).softmax(-1)[..., : k.shape[-2]] @ v


def attention_of(module: Any, reference: Reference | None) -> Callable[..., tuple[Tensor, None]]:
    """The naive attention function of one layer."""

    def function(
        query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float,
        softcap: float | None = None,
    ) -> tuple[Tensor, None]:  # fmt: skip
        if reference is not None and reference.capturing:
            reference.key, reference.value = (
                x[:PROMPTS, :, 0].transpose(0, 1) for x in (key, value)
            )
            return torch.zeros_like(query).transpose(1, 2), None

        def words(scores: Tensor) -> Tensor:
            if mask is not None and mask.dtype == torch.bool:
                scores = scores.masked_fill(~mask, float("-inf"))
            elif mask is not None:
                scores = scores + mask
            if hasattr(module, "sinks"):
                sinks = module.sinks.view(1, -1, 1, 1).expand(*scores.shape[:-1], 1)
                scores = torch.cat([scores, sinks], dim=-1)
            return scores

        text = attend(query, key, value, scale, softcap, words)
        if reference is not None:
            prompts = attend(query, reference.key, reference.value, scale, softcap, lambda s: s)
            text = text + reference.gate.tanh()[:, None, None] * prompts
        return text.transpose(1, 2), None

    return function


@contextmanager
def naive(bare: Any, references: dict[str, Reference]) -> Iterator[None]:
    """Run a bare model with the naive attention and the prompts of `references`."""
    layers = {id(bare.get_submodule(name)): ref for name, ref in references.items()}
    active: list[nn.Module] = []

    def before(module: Any, args: Any, kwargs: Any) -> None:
        active[:] = [module]
        if (reference := layers.get(id(module))) is None:
            return
        hidden = args[0] if args else kwargs["hidden_states"]
        first = torch.cat([reference.prompt[:, None], hidden[:PROMPTS, 1:]], dim=1)
        given = torch.cat([first, hidden[PROMPTS:]])
        rest = {name: value for name, value in kwargs.items() if name != "hidden_states"}
        reference.capturing = True
        type(module).forward(module, given, *args[1:], **rest)
        reference.capturing = False

    def for_transformers(
        module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Any, scaling: float, **kw: Any
    ) -> tuple[Tensor, None]:
        function = attention_of(module, layers.get(id(module)))
        return function(query, key, value, mask, scaling, kw.get("softcap"))

    def after(*_: Any) -> None:
        active.clear()

    own = nn.functional.scaled_dot_product_attention

    def for_timm(q: Tensor, k: Tensor, v: Tensor, attn_mask: Any = None, **kw: Any) -> Tensor:
        if not active:  # an attention pool
            return own(q, k, v, attn_mask, **kw)
        (module,) = active
        function = attention_of(module, layers.get(id(module)))
        return function(q, k, v, attn_mask, q.shape[-1] ** -0.5)[0].transpose(1, 2)

    AttentionInterface.register("naive", for_transformers)
    AttentionMaskInterface.register("naive", ALL_MASK_ATTENTION_FUNCTIONS["eager"])
    hooks = []
    for layer in attention_layers(bare):
        hooks.append(layer.attention.register_forward_pre_hook(before, with_kwargs=True))
        hooks.append(layer.attention.register_forward_hook(after))
    if "timm" in type(bare).__module__:
        patch: Any = mock.patch.object(nn.functional, "scaled_dot_product_attention", for_timm)
    else:
        bare.set_attn_implementation("naive")
        patch = nullcontext()
    with patch:
        yield
    for hook in hooks:
        hook.remove()
