"""Tokens and time of three ways to split a step of 64 examples, at Alpaca's lengths.

    python -m benchmarks.data_path --out FILE.json

All three compute the same gradients up to rounding. Tokens are counted over an epoch; time is
measured with a small model on some of its steps, each in all three ways.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from benchmarks import command, lengths
from benchmarks.measure import Part, interleaved, part, record, synchronizer
from benchmarks.models import LlamaShape, open_gates, random_llama
from zia_core import ZeroInitConfig, attach
from zia_core.batching import (
    epoch_order,
    fixed_micro_batches,
    steps_per_epoch,
    token_micro_batches,
)
from zia_core.losses import IGNORED, causal_lm_loss, label_index

ROUNDS = 5
BASE = "cut by length"
Cut = Callable[[Sequence[int]], list[list[int]]]


@dataclass(frozen=True)
class Shape(LlamaShape):
    """A model whose vocabulary costs 2 % of a pass, as LLaMA-7B's does, and a step's examples."""

    width: int = 256
    layers: int = 4
    heads: int = 4
    mlp: int = 688
    vocabulary: int = 256
    adapted_layers: int = 4
    batch: int = 64
    micro_batch: int = 4
    token_budget: int = 8192


@dataclass(frozen=True)
class Path:
    """How to split a step, how far to pad, and where to compute logits.

    Attributes:
        cut: maps lengths of a step's examples to positions of each micro-batch.
        padded_to: tokens of every example; None for the longest in its micro-batch.
        all_logits: at every position, not only labelled ones.
    """

    cut: Cut
    padded_to: int | None = None
    all_logits: bool = False

    def width(self, tokens: Sequence[int]) -> int:
        """Tokens that the examples of a micro-batch are padded to."""
        return max(tokens) if self.padded_to is None else self.padded_to


def paths(shape: Shape) -> dict[str, Path]:
    """The released code's, the usual way to pad, and ours."""

    def in_order(tokens: Sequence[int]) -> list[list[int]]:
        return fixed_micro_batches(len(tokens), shape.micro_batch)

    def by_length(tokens: Sequence[int]) -> list[list[int]]:
        return token_micro_batches(tokens, shape.token_budget)

    return {
        f"padded to {lengths.MAX_LENGTH}": Path(in_order, lengths.MAX_LENGTH, all_logits=True),
        f"padded to the longest of {shape.micro_batch}": Path(in_order, all_logits=True),
        BASE: Path(by_length),
    }


def gradients(
    model: nn.Module, path: Path, examples: Sequence[int], of: lengths.Lengths, vocabulary: int
) -> None:
    """Accumulate the gradients of one step's mean loss over labels.

    Padding comes last, where no causal query sees it. So no path needs a mask, which would cost
    torch's fastest kernel.
    """
    device = next(model.parameters()).device
    tokens = [of.tokens[example] for example in examples]
    step_labels = sum(of.labels[example] for example in examples)
    for members in path.cut(tokens):
        some = [examples[position] for position in members]
        width = path.width([of.tokens[example] for example in some])
        batch = [padded(example, width, of, vocabulary) for example in some]
        ids, _, labels = map(torch.stack, zip(*batch, strict=True))
        index = label_index(labels).to(device)  # on the CPU, or it would wait for the GPU
        ids, labels = ids.to(device), labels.to(device)
        if path.all_logits:
            loss = _loss_of_all(model, ids, labels)
        else:
            loss = causal_lm_loss(model, ids, None, labels, index)[0]
        (loss / step_labels).backward()


def _loss_of_all(model: nn.Module, ids: Tensor, labels: Tensor) -> Tensor:
    logits = model(input_ids=ids, use_cache=False).logits[:, :-1]
    wide = torch.promote_types(logits.dtype, torch.float32)
    targets = labels[:, 1:].flatten()
    return cross_entropy(
        logits.flatten(0, 1).to(wide), targets, ignore_index=IGNORED, reduction="sum"
    )


def padded(
    example: int, width: int, of: lengths.Lengths, vocabulary: int
) -> tuple[Tensor, Tensor, Tensor]:
    """Ids, mask and labels [width] of a record's length, with its own random tokens."""
    tokens, labelled = of.tokens[example], of.labels[example]
    drawn = torch.Generator().manual_seed(example)
    ids = torch.zeros(width, dtype=torch.int64)
    ids[:tokens] = torch.randint(0, vocabulary, (tokens,), generator=drawn)
    labels = torch.full((width,), IGNORED)
    labels[tokens - labelled : tokens] = ids[tokens - labelled : tokens]
    return ids, (torch.arange(width) < tokens).long(), labels


def counted(shape: Shape, of: lengths.Lengths) -> dict[str, dict[str, float]]:
    """Exact counts of an epoch: all of its full steps."""
    counts = {}
    for name, path in paths(shape).items():
        real = computed = logits = micro_batches = 0
        for examples in steps(shape.batch, of):
            tokens = [of.tokens[example] for example in examples]
            real += sum(tokens)
            for members in path.cut(tokens):
                padded = len(members) * path.width([tokens[position] for position in members])
                labels = sum(of.labels[examples[position]] for position in members)
                computed += padded
                logits += padded if path.all_logits else labels
                micro_batches += 1
        counts[name] = {
            "micro-batches": micro_batches,
            "tokens computed": computed,
            "over the real ones": computed / real,
            "tokens with logits": logits,
        }
    return counts


def timed(shape: Shape, of: lengths.Lengths, rounds: int) -> Part:
    """Time steps of the epoch, one per round and each in all three ways, without the optimiser."""
    model = attach(random_llama(shape), ZeroInitConfig(shape.prompt_length, shape.adapted_layers))
    open_gates(model)
    done = synchronizer(shape.device)

    def call(path: Path) -> Callable[[], None]:
        examples = steps(shape.batch, of)

        def run() -> None:
            gradients(model, path, next(examples), of, shape.vocabulary)
            done()

        return run

    calls = {name: call(path) for name, path in paths(shape).items()}
    return part(interleaved(calls, rounds, warmup=1), BASE, work={"samples": shape.batch})


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Count an epoch and time some of its steps."""
    of = lengths.load()
    parts = {
        "an epoch, counted": part({}, BASE, figures=counted(shape, of)),
        "a step": timed(shape, of, rounds),
    }
    return record("data_path", shape, parts)


def steps(batch: int, of: lengths.Lengths) -> Iterator[list[int]]:
    """The examples of each step of an epoch, shuffled as in training."""
    order = epoch_order(len(of.tokens), seed=0, epoch=0)
    for step in range(steps_per_epoch(len(order), batch)):
        yield order[step * batch : (step + 1) * batch]


if __name__ == "__main__":
    command.main("data_path")
