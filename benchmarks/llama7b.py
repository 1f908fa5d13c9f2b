"""LLaMA-7B's shape, random bfloat16 weights, Alpaca's real lengths, on one GPU.

    python -m benchmarks.llama7b --out FILE.json

Each round is an optimiser step on other examples, done in every mode. Without a GPU it can be tried
at small sizes: --shape '{"device": "cpu", "width": 64, ...}'.
"""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch

from benchmarks import command
from benchmarks.data_path import Path, gradients, steps
from benchmarks.lengths import Lengths, load
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import LlamaShape, open_gates, random_llama
from zia_core import ZeroInitConfig, attach
from zia_core.batching import token_micro_batches

ROUNDS = 20
EPOCHS = 5  # of the paper
BASE, MATMUL = "8,192 tokens", "matrix product"


@dataclass(frozen=True)
class Shape(LlamaShape):
    """The paper's model and batch; the side of the matrices whose product is the ceiling."""

    width: int = 4096
    layers: int = 32
    heads: int = 32
    kv_heads: int = 32
    mlp: int = 11008
    vocabulary: int = 32000
    adapted_layers: int = 30
    dtype: Literal["float32", "bfloat16"] = "bfloat16"
    device: str = "cuda"
    batch: int = 64
    matrix: int = 8192


def modes() -> dict[str, Path]:
    """How a step is cut: at most so many padded tokens, and what a cut counts for, in tokens."""

    def at_most(token_budget: int, overhead_tokens: int = 64, mask: bool = True) -> Path:
        return Path(
            lambda tokens: token_micro_batches(tokens, token_budget, overhead_tokens), mask=mask
        )

    return {
        BASE: at_most(8192),
        "8,192 tokens, no mask": at_most(8192, mask=False),
        "8,192 tokens, fewer cuts": at_most(8192, 256),
        "8,192 tokens, fewer cuts, no mask": at_most(8192, 256, mask=False),
        "1,024 tokens, no mask": at_most(1024, mask=False),  # made for 24 GB
    }


def step_flops(shape: Shape, of: Lengths, examples: Sequence[int]) -> float:
    """What a step has to compute, nothing padded or made twice; products count 2.

    Frozen weights get no gradient, so a linear layer's backward pass costs what its forward pass
    does, and that of the attention's two products twice as much. It ends at the lowest adapted
    layer's prompts: the words' queries, keys and values there need none.
    """
    C, kv, K = shape.width, shape.width // shape.heads * shape.kv_heads, shape.prompt_length
    projections = C * C + 2 * C * kv  # queries, keys, values
    layer = projections + C * C + 3 * C * shape.mlp
    forward, L = shape.layers, shape.adapted_layers
    flops = 0.0
    for example in examples:
        T, labels = of.tokens[example], of.labels[example]
        flops += 2 * T * (forward * layer + L * layer - projections)
        flops += 2 * C * T * (T + 1) * (forward + 2 * (L - 1))  # half of the scores are causal
        flops += 4 * C * T * K * 3 * L
        flops += 2 * 2 * labels * C * shape.vocabulary
    return flops


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """The ceiling first, then steps in every mode."""
    ceiling = _ceiling(shape)
    best = ceiling["work"]["TFLOP"] / min(ceiling["seconds"][MATMUL])
    return record(
        "llama7b", shape, {"ceiling": ceiling, "training": _training(shape, rounds, best)}
    )


def _ceiling(shape: Shape) -> Part:
    side, dtype = shape.matrix, getattr(torch, shape.dtype)
    a, b = (torch.randn(side, side, device=shape.device, dtype=dtype) for _ in range(2))
    done = synchronizer(shape.device)

    def product() -> None:
        torch.mm(a, b)
        done()

    return part(interleaved({MATMUL: product}, 10), MATMUL, work={"TFLOP": 2 * side**3 / 1e12})


def _training(shape: Shape, rounds: int, ceiling_tflops: float) -> Part:
    of = load()
    model = attach(random_llama(shape), ZeroInitConfig(shape.prompt_length, shape.adapted_layers))
    open_gates(model.train())
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=1e-4)
    done = synchronizer(shape.device)
    on_gpu = shape.device != "cpu"
    peaks: dict[str, int] = dict.fromkeys(modes(), 0)

    def step(name: str, path: Path) -> Callable[[], None]:
        upcoming = steps(shape.batch, of)

        def call() -> None:
            if on_gpu:
                torch.cuda.reset_peak_memory_stats()
            gradients(model, path, next(upcoming), of, shape.vocabulary)
            optimizer.step()
            optimizer.zero_grad()
            done()
            if on_gpu:
                peaks[name] = max(peaks[name], torch.cuda.max_memory_allocated())

        return call

    warmup = 2
    seconds = interleaved({n: step(n, path) for n, path in modes().items()}, rounds, warmup)
    upcoming = steps(shape.batch, of)
    done_steps = [next(upcoming) for _ in range(warmup + rounds)][warmup:]
    flops = [step_flops(shape, of, examples) for examples in done_steps]
    tokens = sum(of.tokens[example] for examples in done_steps for example in examples)
    figures = {}
    for name, times in seconds.items():
        rate = tokens / sum(times)
        tflops = [f / 1e12 / t for f, t in zip(flops, times, strict=True)]
        figures[name] = {
            "tokens/s": rate,
            "utilisation, %": 100 * statistics.median(tflops) / ceiling_tflops,
            "five epochs, minutes": EPOCHS * sum(of.tokens) / rate / 60,
        }
        if on_gpu:
            figures[name]["peak, bytes"] = peaks[name]
    return part(seconds, BASE, figures=figures)


if __name__ == "__main__":
    command.main("llama7b")
