"""Growth of a training step's cost with batch, tokens, prompts, adapted layers and all layers.

    python -m benchmarks.scale --out FILE.json

One size grows at a time. At every point the floor of `train_step` and zero-init attention
alternate, so each curve has two costs and their ratio.
"""

import copy
import statistics
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from benchmarks import command, train_step
from benchmarks.measure import Part, interleaved, part, ratios, record
from benchmarks.models import LlamaShape, open_gates, random_llama
from zia_core import ZeroInitConfig, attach

ROUNDS = 5
BASE, OURS = "floor", "zero-init"


@dataclass(frozen=True)
class Shape(LlamaShape):
    """The model and batch that all curves share, and the values along each."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    kv_heads: int = 4
    mlp: int = 688
    vocabulary: int = 512
    adapted_layers: int = 4
    batch: int = 2
    tokens: int = 128
    batches: tuple[int, ...] = (1, 2, 4, 8)
    lengths: tuple[int, ...] = (64, 128, 256, 512)
    prompts: tuple[int, ...] = (1, 10, 32, 100)
    adapted: tuple[int, ...] = (1, 2, 3, 4)
    depths: tuple[int, ...] = (2, 4, 8, 16)


def curves(shape: Shape) -> dict[str, dict[int, Shape]]:
    """The shapes along each curve, by the name of what grows."""
    return {
        "batch": {n: replace(shape, batch=n) for n in shape.batches},
        "tokens": {n: replace(shape, tokens=n) for n in shape.lengths},
        "prompts": {n: replace(shape, prompt_length=n) for n in shape.prompts},
        "adapted layers": {n: replace(shape, adapted_layers=n) for n in shape.adapted},
        "layers, all adapted": {
            n: replace(shape, layers=n, adapted_layers=n) for n in shape.depths
        },
    }


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Make a table for each size that grows."""
    parts = {
        f"as it grows: {name}": _curve({str(n): at(point, rounds) for n, point in points.items()})
        for name, points in curves(shape).items()
    }
    return record("scale", shape, parts)


def at(shape: Shape, rounds: int) -> dict[str, float]:
    """One point: milliseconds of both steps, the median of their ratios, and bytes saved."""
    sizes = {name: getattr(shape, name) for name in train_step.Shape.__dataclass_fields__}
    batch = train_step.batch_of(train_step.Shape(**sizes))
    base = random_llama(shape)
    K, L = shape.prompt_length, shape.adapted_layers
    models = {
        OURS: attach(copy.deepcopy(base), ZeroInitConfig(K, L)),
        BASE: train_step.floor(base, L),
    }
    open_gates(models[OURS])
    calls = {name: train_step.step(model.train(), batch) for name, model in models.items()}
    kept = {
        name: train_step.counts(model, batch)["kept for backward, bytes"]
        for name, model in models.items()
    }
    seconds = interleaved(calls, rounds)
    return {
        "floor, ms": 1000 * statistics.median(seconds[BASE]),
        "zero-init, ms": 1000 * statistics.median(seconds[OURS]),
        "time / floor": ratios(seconds)[OURS][BASE]["median"],
        "floor, kept bytes": kept[BASE],
        "zero-init, kept bytes": kept[OURS],
    }


def _curve(points: Mapping[str, Mapping[str, float]]) -> Part:
    return part({}, next(iter(points)), figures=points)


if __name__ == "__main__":
    command.main("scale")
