"""Attention alone: the equation on given queries, keys and values, then one layer of a model.

    python -m benchmarks.attention_core --out FILE.json

All forms but plain attention compute the same function, with open gates. PEFT's form needs a layer:
it calls the whole attention, then recomputes the queries and the output projection. The *folded
product* is a cheaper plain form, with the scale folded into K_p and one product that adds the term
to the text. It rounds differently, so zero-init does not use it: published numbers would change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks import command
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import LlamaShape, open_gates, random_llama, reference_concatenation
from zia_core import ZeroInitConfig, attach, baselines
from zia_core.families import projection
from zia_core.kernel_choice import Form, prompt_form
from zia_core.layer import ZeroInit
from zia_core.memory import bytes_kept_for_backward

ROUNDS = 15
BASE = "plain attention"


@dataclass(frozen=True)
class Shape:
    """Causal multi-head attention over full sequences."""

    batch: int = 2
    heads: int = 12
    tokens: int = 512
    head_dim: int = 64
    prompt_length: int = 10
    dtype: Literal["float32", "bfloat16"] = "float32"
    device: str = "cpu"


@dataclass(frozen=True)
class Contestant:
    """A forward pass as a call, the tensors that get gradients, and weights that exist anyway."""

    forward: Callable[[], Tensor]
    trained: list[Tensor]
    frozen: list[Tensor]


def core(shape: Shape) -> dict[str, Contestant]:
    """Forms of the equation, on the same queries, keys and values [B, H, T, D]."""
    attention = _attention(_llama(shape, "zero-init"))
    open_gates(attention)
    layer: ZeroInit = attention.zero_init
    size = (shape.batch, shape.heads, shape.tokens, shape.head_dim)
    q, k, v = words = [_normal(shape, size) for _ in range(3)]
    project, scale = projection(attention), shape.head_dim**-0.5
    sdpa = nn.functional.scaled_dot_product_attention

    def plain() -> Tensor:
        return sdpa(q, k, v, is_causal=True)

    def ours(form: Form) -> Tensor:
        with prompt_form(form):
            fused = layer.is_fused(q, 0.0)
            prompts = layer(project, q.dtype, len(q), fused=fused)
            return layer.both_terms(plain().transpose(1, 2), q, prompts, scale).transpose(1, 2)

    def folded() -> Tensor:
        prompts = layer(project, q.dtype, len(q))
        key, value = (
            x.expand(shape.batch, -1, -1, -1).flatten(0, 1)
            for x in (prompts.key * scale, prompts.value)
        )
        weights = torch.bmm(q.flatten(0, 1), key.transpose(1, 2)).softmax(-1)
        both = torch.baddbmm(plain().flatten(0, 1), weights, value)
        return both.unflatten(0, (shape.batch, -1))

    def fused_twice() -> Tensor:
        key, value = (x.expand(shape.batch, -1, -1, -1) for x in project(layer.prompt.to(q.dtype)))
        gate = layer.strength().to(q.dtype)[:, None, None]
        return plain() + gate * sdpa(q, key, value)

    def reference() -> Tensor:
        key, value = project(layer.prompt.to(q.dtype))
        return reference_concatenation(q, k, v, key, value, layer.strength())

    frozen = _frozen(attention)

    # On a GPU zero-init uses the kernel; also measure its plain form.
    forms: dict[str, Form] = {"zero-init": "automatic"}
    if shape.device != "cpu":
        forms["zero-init, plain products"] = "plain"
    adapted = [*words, layer.prompt, layer.gate]
    return {
        BASE: Contestant(plain, words, frozen),
        **{name: Contestant(partial(ours, form), adapted, frozen) for name, form in forms.items()},
        "folded product": Contestant(folded, adapted, frozen),
        "two fused calls": Contestant(fused_twice, adapted, frozen),
        "reference concatenation": Contestant(reference, adapted, frozen),
    }


def layers(shape: Shape) -> dict[str, Contestant]:
    """A LLaMA attention layer from hidden states to its output projection, [B, T, C] each."""
    model = _llama(shape)
    plain, ours, theirs = (
        _attention(_llama(shape, method)) for method in ("", "zero-init", "adaption-prompt")
    )
    open_gates(ours, theirs)
    hidden = _normal(shape, (shape.batch, shape.tokens, shape.heads * shape.head_dim))
    positions = torch.arange(shape.tokens, device=shape.device)[None]
    rotary = model.model.rotary_emb(hidden, positions)

    def whole(attention: Any) -> Contestant:
        def forward() -> Tensor:
            return attention(hidden_states=hidden, position_embeddings=rotary, attention_mask=None)[
                0
            ]

        trained = [parameter for parameter in attention.parameters() if parameter.requires_grad]
        return Contestant(forward, [hidden, *trained], _frozen(attention))

    def reference() -> Tensor:
        from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

        q, k, v = (
            linear(hidden).unflatten(-1, (shape.heads, -1)).transpose(1, 2)
            for linear in (ours.q_proj, ours.k_proj, ours.v_proj)
        )
        q, k = apply_rotary_pos_emb(q, k, *rotary)
        layer: ZeroInit = ours.zero_init
        key, value = projection(ours)(layer.prompt.to(q.dtype))
        mixed = reference_concatenation(q, k, v, key, value, layer.strength())
        return ours.o_proj(mixed.transpose(1, 2).flatten(2))

    zero_init = whole(ours)
    return {
        BASE: whole(plain),
        "zero-init": zero_init,
        "reference concatenation": replace(zero_init, forward=reference),
        "AdaptionPrompt (PEFT)": whole(theirs),
    }


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Measure both scopes, forward and forward with backward, and the bytes saved in between."""
    parts = {}
    for scope, contestants in (("core", core(shape)), ("layer", layers(shape))):
        parts[f"{scope}, forward"] = _forward(shape, contestants, rounds)
        parts[f"{scope}, forward and backward"] = _both(shape, contestants, rounds)
    return record("attention_core", shape, parts)


def _forward(shape: Shape, contestants: Mapping[str, Contestant], rounds: int) -> Part:
    done = synchronizer(shape.device)

    def call(contestant: Contestant) -> Callable[[], None]:
        def run() -> None:
            with torch.no_grad():
                contestant.forward()
            done()

        return run

    calls = {name: call(contestant) for name, contestant in contestants.items()}
    return part(interleaved(calls, rounds), BASE)


def _both(shape: Shape, contestants: Mapping[str, Contestant], rounds: int) -> Part:
    done = synchronizer(shape.device)

    def call(contestant: Contestant) -> Callable[[], None]:
        def run() -> None:
            out = contestant.forward()
            torch.autograd.grad(out, contestant.trained, torch.ones_like(out))
            done()

        return run

    calls = {name: call(contestant) for name, contestant in contestants.items()}
    figures = {
        name: {"kept for backward, bytes": _kept(contestant)}
        for name, contestant in contestants.items()
    }
    return part(interleaved(calls, rounds), BASE, figures=figures)


def _kept(contestant: Contestant) -> int:
    return bytes_kept_for_backward(contestant.forward, beside=contestant.frozen)


def _llama(shape: Shape, method: str = "") -> Any:
    """A model of one layer, for its attention."""
    width = shape.heads * shape.head_dim
    sizes = LlamaShape(
        width=width,
        layers=1,
        heads=shape.heads,
        kv_heads=shape.heads,
        mlp=1,
        vocabulary=8,
        adapted_layers=1,
        dtype=shape.dtype,
        device=shape.device,
    )
    model = random_llama(sizes).requires_grad_(False)
    if method == "zero-init":
        return attach(model, ZeroInitConfig(shape.prompt_length, 1))
    if method == "adaption-prompt":
        return baselines.adaption_prompt(model, shape.prompt_length, 1).get_base_model()
    return model


def _attention(model: Any) -> Any:
    return model.model.layers[0].self_attn


def _frozen(attention: nn.Module) -> list[Tensor]:
    return [parameter for parameter in attention.parameters() if not parameter.requires_grad]


def _normal(shape: Shape, size: tuple[int, ...]) -> Tensor:
    drawn = torch.randn(size, device=shape.device, dtype=getattr(torch, shape.dtype))
    return drawn.requires_grad_()


if __name__ == "__main__":
    command.main("attention_core")
