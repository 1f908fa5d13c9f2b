"""The two visual projections written out, token by token and head by head, in float64."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from tests.zia_core.backbones import adapted, inputs
from zia_core import VisualConfig, attach_visual, visual_projection
from zia_core.visual.projections import VisualProjection

GLOBAL = VisualConfig(encoder_width=6, depths=(1, 2, -1), bottleneck=5)
QUERIES = VisualConfig(
    encoder_width=7, projection="queries", query_width=8, blocks=2, heads=2, mlp_ratio=3
)
CONFIGS = {"global": GLOBAL, "queries": QUERIES}
Parameters = dict[str, Tensor]


def seeing(family: str, projection: str, **choices: str) -> nn.Module:
    """A tiny adapted backbone with open gates and a visual projection, in float32."""
    model = adapted(family, **choices)
    torch.manual_seed(5)
    attach_visual(model, CONFIGS[projection])
    with torch.no_grad():
        for parameter in of(model).parameters():
            parameter.add_(torch.randn_like(parameter) * 0.3)  # biases and norms matter too
    return model


def of(model: nn.Module) -> VisualProjection:
    """The model's visual projection."""
    found = visual_projection(model)
    assert found is not None
    return found


def features(projection: str, batch: int = 2, seed: int = 3) -> Tensor:
    """Features of random images, float32."""
    generator = torch.Generator().manual_seed(seed)
    shape = (batch, 18) if projection == "global" else (batch, 4, 7)
    return torch.randn(shape, generator=generator)


def batch_of(family: str, batch: int = 3) -> dict[str, Tensor]:
    """A batch of words or pixels for the backbone."""
    return inputs(family, batch=batch)


def leaves(model: nn.Module) -> Parameters:
    """Float64 copies of the projection's parameters that require gradients."""
    return {n: p.detach().double().requires_grad_() for n, p in of(model).named_parameters()}


def naive_vectors(projection: str, p: Parameters, image: Tensor) -> Tensor:
    """The vectors that an image adds to the prompts: [1, C] or [K, C]."""
    return naive_global(p, image)[None] if projection == "global" else naive_queries(p, image)


def naive_global(p: Parameters, image_F: Tensor) -> Tensor:
    x = p["down.weight"] @ image_F + p["down.bias"]
    x = x * 0.5 * (1 + torch.erf(x / math.sqrt(2)))  # GELU
    return p["up.weight"] @ x + p["up.bias"]


def naive_queries(p: Parameters, image_NE: Tensor) -> Tensor:
    tokens = [
        _norm(p["down.weight"] @ token + p["down.bias"], p, "down_norm") for token in image_NE
    ]
    tokens = [*p["query"], *tokens]
    for block in range(QUERIES.blocks):
        tokens = _block(p, f"blocks.{block}", tokens)
    kept = tokens[: len(p["query"])]
    return torch.stack([_norm(p["up.weight"] @ x + p["up.bias"], p, "up_norm") for x in kept])


def _block(p: Parameters, name: str, tokens: list[Tensor]) -> list[Tensor]:
    heads, width = QUERIES.heads, QUERIES.query_width
    normed = [_norm(x, p, f"{name}.norm1") for x in tokens]
    qkv = [p[f"{name}.qkv.weight"] @ x + p[f"{name}.qkv.bias"] for x in normed]
    query, key, value = ([x[i * width : (i + 1) * width] for x in qkv] for i in range(3))
    mixed = []
    for here in range(len(tokens)):
        parts = []
        for head in range(heads):
            part = slice(head * width // heads, (head + 1) * width // heads)
            scores = torch.stack([query[here][part] @ k[part] for k in key])
            weights = (scores / math.sqrt(width / heads)).softmax(0)
            parts.append(sum(w * v[part] for w, v in zip(weights, value, strict=True)))
        out = torch.cat(parts)  # type: ignore[arg-type]
        mixed.append(tokens[here] + p[f"{name}.proj.weight"] @ out + p[f"{name}.proj.bias"])
    after = []
    for x in mixed:
        y = p[f"{name}.mlp.0.weight"] @ _norm(x, p, f"{name}.norm2") + p[f"{name}.mlp.0.bias"]
        y = y * 0.5 * (1 + torch.erf(y / math.sqrt(2)))
        after.append(x + p[f"{name}.mlp.2.weight"] @ y + p[f"{name}.mlp.2.bias"])
    return after


def _norm(x: Tensor, p: Parameters, name: str) -> Tensor:
    centred = x - x.mean()
    deviation = torch.sqrt(centred.square().mean() + 1e-5)
    return centred / deviation * p[f"{name}.weight"] + p[f"{name}.bias"]
