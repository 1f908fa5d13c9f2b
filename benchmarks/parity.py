"""Errors of each form of the prompt term on each attention kernel, against float64.

    python -m benchmarks.parity --out FILE.json

Errors ||found - exact|| / ||exact|| of one LLaMA attention layer with random open gates: its output
and the gradients of its input, prompts and gates. The exact values are those of the equation as
printed (`reference_concatenation`), in float64 on the same weights and inputs. Tests tell whether a
form is right; this tells how far each kernel of a device is off, and whether a form is worse than
the backbone's own attention.
"""

import copy
import re
import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from benchmarks import command
from benchmarks.measure import Part, part, record
from benchmarks.models import LlamaShape, random_llama, reference_concatenation
from zia_core import ZeroInitConfig, attach, zero_init_layers
from zia_core.families import projection
from zia_core.kernel_choice import prompt_form

ROUNDS = 1  # not timed
KERNELS = {
    "math": SDPBackend.MATH,
    "efficient": SDPBackend.EFFICIENT_ATTENTION,
    "flash": SDPBackend.FLASH_ATTENTION,
    "cudnn": SDPBackend.CUDNN_ATTENTION,
}
NOT_HAD = re.compile("No (available kernel|viable backend)")  # torch's errors on a GPU, on a CPU


@dataclass(frozen=True)
class Shape:
    """One causal grouped-query attention layer over full sequences.

    Attributes:
        compiler: torch.compile's backend for the compiled rows.
    """

    batch: int = 2
    heads: int = 8
    kv_heads: int = 2
    head_dim: int = 128
    tokens: int = 200
    prompt_lengths: tuple[int, ...] = (10, 100)
    compiler: Literal["inductor", "aot_eager"] = "inductor"
    device: str = "cpu"


@dataclass(frozen=True)
class Case:
    """A layer with prompts and open gates, and an input.

    Attributes:
        hidden: input, [B, T, C].
        weight: [B, T, C]; gradients are those of (output * weight).sum().
    """

    attention: Any
    hidden: Tensor
    rotary: tuple[Tensor, Tensor]
    weight: Tensor

    def to(self, dtype: torch.dtype) -> "Case":
        """A copy in another precision."""
        attention = copy.deepcopy(self.attention).to(dtype)
        cos, sin = self.rotary
        return Case(
            attention, self.hidden.to(dtype), (cos.to(dtype), sin.to(dtype)), self.weight.to(dtype)
        )


def case(shape: Shape, prompts: int, dtype: torch.dtype) -> Case:
    """A case whose weights and inputs are rounded to `dtype`, so that float64 can copy them."""
    width = shape.heads * shape.head_dim
    sizes = LlamaShape(
        width=width,
        layers=1,
        heads=shape.heads,
        kv_heads=shape.kv_heads,
        mlp=1,
        vocabulary=8,
        adapted_layers=1,
        device=shape.device,
    )
    model = attach(random_llama(sizes).to(dtype), ZeroInitConfig(prompts, 1))
    with torch.no_grad():
        for layer in zero_init_layers(model):
            layer.gate.normal_()
    size = (shape.batch, shape.tokens, width)
    hidden, weight = (torch.randn(size, device=shape.device).to(dtype) for _ in range(2))
    rotary = model.model.rotary_emb(hidden, torch.arange(shape.tokens, device=shape.device)[None])
    return Case(model.model.layers[0].self_attn, hidden, rotary, weight)


def results(of: Case, forward: Callable[[Case], Tensor]) -> dict[str, Tensor]:
    """The output, and the gradients of input, prompts and gates, in float64."""
    hidden = of.hidden.detach().clone().requires_grad_()
    layer = of.attention.zero_init
    out = forward(replace(of, hidden=hidden))
    gradients = torch.autograd.grad((out * of.weight).sum(), [hidden, layer.prompt, layer.gate])
    names = ("output", "input's gradient", "prompts' gradient", "gates' gradient")
    return {
        name: found.detach().double() for name, found in zip(names, (out, *gradients), strict=True)
    }


def layer_forward(of: Case) -> Tensor:
    """The library's layer with our prompt term."""
    return of.attention(of.hidden, position_embeddings=of.rotary, attention_mask=None)[0]


def exact_forward(of: Case) -> Tensor:
    """Equations 4-8 as printed."""
    from transformers.models.llama.modeling_llama import apply_rotary_pos_emb

    attention = of.attention
    q, k, v = (
        linear(of.hidden).unflatten(-1, (-1, attention.head_dim)).transpose(1, 2)
        for linear in (attention.q_proj, attention.k_proj, attention.v_proj)
    )
    q, k = apply_rotary_pos_emb(q, k, *of.rotary)
    layer = attention.zero_init
    key, value = projection(attention)(layer.prompt)
    k, v, key, value = (
        x.repeat_interleave(q.shape[-3] // x.shape[-3], dim=-3) for x in (k, v, key, value)
    )
    mixed = reference_concatenation(q, k, v, key, value, layer.strength())
    return attention.o_proj(mixed.transpose(1, 2).flatten(2))


def errors(found: dict[str, Tensor], exact: dict[str, Tensor]) -> dict[str, float]:
    """||found - exact|| / ||exact|| of each; NaN stays NaN."""
    return {
        name: ((found[name] - exact[name]).norm() / exact[name].norm()).item() for name in exact
    }


def forms(device: str) -> dict[str, Callable[[], AbstractContextManager[object]]]:
    """The forms of the prompt term on this device: names, and contexts that force them."""
    kernels = {"fused": partial(prompt_form, "fused")} if device != "cpu" else {}
    return {"plain": partial(prompt_form, "plain"), **kernels}


def table(shape: Shape, prompts: int, dtype: torch.dtype) -> Part:
    """Every form on every kernel that supports the case; also compiled, for the first K."""
    torch.manual_seed(0)
    given = case(shape, prompts, dtype)
    exact = results(given.to(torch.float64), exact_forward)
    rows: dict[str, dict[str, float]] = {}
    for form, forced in forms(shape.device).items():
        for kernel, backend in KERNELS.items():
            try:
                with warnings.catch_warnings(action="ignore"), forced(), sdpa_kernel(backend):
                    rows[f"{form}, {kernel}"] = errors(results(given, layer_forward), exact)
            except RuntimeError as error:
                if not NOT_HAD.search(str(error)):
                    raise
        if prompts == shape.prompt_lengths[0]:
            torch._dynamo.reset()
            compiled = torch.compile(layer_forward, backend=shape.compiler)
            with forced():
                rows[f"{form}, compiled"] = errors(results(given, compiled), exact)
    return part({}, next(iter(rows)), figures=rows)


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Make a table for each precision and number of prompts."""
    parts = {
        f"{str(dtype).removeprefix('torch.')}, {prompts} prompts": table(shape, prompts, dtype)
        for dtype in (torch.float32, torch.bfloat16)
        for prompts in shape.prompt_lengths
    }
    return record("parity", shape, parts)


if __name__ == "__main__":
    command.main("parity")
