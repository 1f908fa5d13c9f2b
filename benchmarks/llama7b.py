"""Training of a LLaMA-7B with random bfloat16 weights at Alpaca's real lengths, on one GPU.

    python -m benchmarks.llama7b --out FILE.json

It uses the project's own engine, in each mode on the same steps. Without a GPU, try it at small
sizes: --shape '{"device": "cpu", "width": 64, ...}'.
"""

import gc
import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import torch
from torch import Tensor, nn

from benchmarks import command
from benchmarks.data_path import padded
from benchmarks.lengths import Lengths, load
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import LlamaShape, open_gates, random_llama
from experiments.training.step_cost import micro_batch
from zia_core import ZeroInitConfig, attach
from zia_core.batching import examples_of_step
from zia_core.engine import TrainSettings, train
from zia_core.gradients import plan_step
from zia_core.losses import causal_lm_loss, label_index
from zia_core.ranks import Ranks
from zia_core.step_memory import step_memory

ROUNDS = 20
WARM_UP = 3  # steps not counted, for the caching allocator and compilation
EPOCHS = 5  # as in the paper
BASE, MATMUL = "8,192 tokens", "matrix product"


@dataclass(frozen=True)
class Shape(LlamaShape):
    """The paper's model and batch, and the size of the matrices whose product is the ceiling."""

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


@dataclass(frozen=True)
class Mode:
    """How to compute a step.

    Attributes:
        settings: of the engine.
        loss_chunk: labels whose logits are in memory at a time.
    """

    settings: Mapping[str, Any]
    loss_chunk: int | None = None


def modes() -> dict[str, Mode]:
    """Large micro-batches, then ways to fit into 24 GB."""
    return {
        BASE: Mode({"token_budget": 8192}),
        "8,192 tokens, compiled": Mode({"token_budget": 8192, "compile": True}),
        "8,192 tokens, fewer cuts": Mode({"token_budget": 8192, "overhead_tokens": 1024}),
        "1,024 tokens": Mode({"token_budget": 1024}),
        "4,096 tokens, recomputed": Mode(
            {"token_budget": 4096, "checkpoint_activations": True}, loss_chunk=512
        ),
    }


@dataclass(frozen=True)
class Records:
    """A `TrainTask` of records with Alpaca's lengths and random tokens."""

    of: Lengths
    vocabulary: int
    mode: Mode

    def __len__(self) -> int:
        return len(self.of.tokens)

    def length(self, index: int) -> int:
        """Tokens of prompt and response."""
        return self.of.tokens[index]

    def labels(self, index: int) -> int:
        """Tokens of the response."""
        return self.of.labels[index]

    def record_id(self, index: int) -> str:
        """Its number in the official file."""
        return str(index)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        """The records, padded to the longest."""
        width = max(map(self.length, indices))
        rows = [padded(index, width, self.of, self.vocabulary) for index in indices]
        ids, mask, labels = map(torch.stack, zip(*rows, strict=True))
        return {
            "input_ids": ids,
            "attention_mask": mask,
            "labels": labels,
            "label_index": label_index(labels),
        }

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        """The loss, with logits only at labels."""
        return causal_lm_loss(
            model,
            batch["input_ids"],
            batch["attention_mask"],
            batch["labels"],
            batch["label_index"],
            self.mode.loss_chunk,
        )

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        """Do not evaluate."""
        return {}


@dataclass
class Times:
    """A journal that keeps only the timing records of steps."""

    steps: list[dict[str, Any]] = field(default_factory=list)

    def timing(self, record: dict[str, Any]) -> None:
        """Keep a step's record."""
        self.steps.append(record)

    def metrics(self, record: dict[str, Any]) -> None:
        """Ignore losses of random tokens."""

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], state: Any) -> None:
        """Save nothing."""

    def load_checkpoint(self) -> None:
        """Load nothing."""

    def stop_requested(self) -> None:
        """Never stop."""

    def progress(self, **fields: Any) -> None:
        """Report nothing."""


def step_flops(shape: Shape, of: Lengths, examples: Sequence[int]) -> float:
    """FLOPs that a step needs, without padding or recomputation; a multiply-add counts 2.

    Frozen weights get no gradient, so the backward pass of a linear layer costs as much as its
    forward pass, and that of attention's two products twice as much. It ends at the prompts of the
    lowest adapted layer, whose queries, keys and values of words need no gradient.
    """
    C, kv, K = shape.width, shape.width // shape.heads * shape.kv_heads, shape.prompt_length
    projections = C * C + 2 * C * kv  # queries, keys, values
    layer = projections + C * C + 3 * C * shape.mlp
    forward, L = shape.layers, shape.adapted_layers
    flops = 0.0
    for example in examples:
        T, labels = of.tokens[example], of.labels[example]
        flops += 2 * T * (forward * layer + L * layer - projections)
        flops += 2 * C * T * (T + 1) * (forward + 2 * (L - 1))  # causal: half of the scores
        flops += 4 * C * T * K * 3 * L
        flops += 2 * 2 * labels * C * shape.vocabulary
    return flops


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Measure the ceiling, then steps in every mode."""
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
    open_gates(model)
    counted = [
        examples_of_step(len(of.tokens), shape.batch, 0, step)
        for step in range(WARM_UP, WARM_UP + rounds)
    ]
    flops = [step_flops(shape, of, examples) for examples in counted]
    tokens = sum(of.tokens[example] for examples in counted for example in examples)
    predicted = predicted_peaks(shape, of, WARM_UP + rounds)
    seconds: dict[str, list[float]] = {}
    figures: dict[str, dict[str, float]] = {}
    for name, mode in modes().items():
        steps = _steps(model, shape, mode, of, WARM_UP + rounds)
        seconds[name] = [step["seconds"] for step in steps[WARM_UP:]]
        rate = tokens / sum(seconds[name])
        tflops = [f / 1e12 / t for f, t in zip(flops, seconds[name], strict=True)]
        figures[name] = {
            "tokens/s": rate,
            "utilisation, %": 100 * statistics.median(tflops) / ceiling_tflops,
            "five epochs, minutes": EPOCHS * sum(of.tokens) / rate / 60,
        }
        if shape.device != "cpu":
            figures[name]["peak, bytes"] = max(step["peak_memory_bytes"] for step in steps)
        if name in predicted:
            figures[name]["predicted peak, bytes"] = predicted[name]
    return part(seconds, BASE, figures=figures)


def _steps(
    model: Any, shape: Shape, mode: Mode, of: Lengths, total_steps: int
) -> list[dict[str, Any]]:
    """The engine's timing records of the first steps of the first epoch."""
    journal = Times()
    records = Records(of, shape.vocabulary, mode)
    train(model, records, _settings(shape, mode, total_steps), journal)
    gc.collect()
    if shape.device != "cpu":
        torch.cuda.empty_cache()  # so that no mode uses memory reserved by another
    return journal.steps


def _settings(shape: Shape, mode: Mode, total_steps: int) -> TrainSettings:
    return TrainSettings(
        total_steps=total_steps,
        batch_size=shape.batch,
        peak_lr=1e-4,
        warmup_steps=0,
        weight_decay=0.02,
        precision="bf16" if shape.dtype == "bfloat16" else "fp32",
        eval_every=0,
        checkpoint_every=0,
        seed=0,
        device=shape.device,
        **mode.settings,
    )


def predicted_peaks(shape: Shape, of: Lengths, total_steps: int) -> dict[str, int]:
    """Peak bytes of the largest micro-batches of the first steps, predicted on the meta device.

    For all modes but the compiled one, which cannot be predicted.
    """
    meta = replace(shape, device="meta")
    model = attach(random_llama(meta), ZeroInitConfig(shape.prompt_length, shape.adapted_layers))
    found = {}
    for name, mode in modes().items():
        records, settings = Records(of, shape.vocabulary, mode), _settings(shape, mode, total_steps)
        if settings.compile:
            continue
        alone = Ranks(0, 1, torch.device("meta"))
        plans = [plan_step(records, settings, step, alone) for step in range(total_steps)]
        cuts = [members for plan in plans for members in plan.micro_batches]

        def padded_tokens(members: Sequence[int]) -> int:
            return len(members) * max(of.tokens[i] for i in members)

        def labels(members: Sequence[int]) -> int:
            return sum(of.labels[i] for i in members)

        largest = (max(cuts, key=padded_tokens), max(cuts, key=labels))
        found[name] = max(_peak(model, records, settings, members) for members in largest)
    return found


def _peak(model: Any, records: Records, settings: TrainSettings, members: Sequence[int]) -> int:
    of = micro_batch(model, settings, records.batch(members), records.loss, len(members))
    saving = settings.checkpoint_activations
    return step_memory(of.model, of.loss, checkpoint_activations=saving).peak


if __name__ == "__main__":
    command.main("llama7b")
