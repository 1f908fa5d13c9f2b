"""Alpaca's lengths: what is computed, and how long it takes, in three ways to cut a step of 64.

    python -m benchmarks.data_path --out FILE.json

All three give the same gradients, but for rounding. The tokens of an epoch are counted; the time is
that of a small model over some of its steps, each done in all three ways.
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
    """A model, whose vocabulary costs 2 % of a pass as LLaMA-7B's does, and a step's examples."""

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
    """One way: how a step is cut, how far it is padded, and where there are logits.

    Attributes:
        cut: lengths of a step's examples -> positions of each micro-batch.
        padded_to: tokens of every example; None for the longest of its micro-batch.
        all_logits: of every position, and not of those with a label alone.
    """

    cut: Cut
    padded_to: int | None = None
    all_logits: bool = False

    def width(self, tokens: Sequence[int]) -> int:
        """Tokens that the examples of one micro-batch are padded to."""
        return max(tokens) if self.padded_to is None else self.padded_to


def paths(shape: Shape) -> dict[str, Path]:
    """As in the released code; as batches are usually padded; ours."""

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
    """Add up the gradients of one step, the mean over its labels.

    Padding comes last, where no causal query sees it, so no path needs a mask, with which torch
    would take a slower kernel.
    """
    device = next(model.parameters()).device
    tokens = [of.tokens[example] for example in examples]
    step_labels = sum(of.labels[example] for example in examples)
    for members in path.cut(tokens):
        some = [examples[position] for position in members]
        width = path.width([of.tokens[example] for example in some])
        batch = [padded(example, width, of, vocabulary) for example in some]
        ids, _, labels = map(torch.stack, zip(*batch, strict=True))
        index = label_index(labels).to(device)  # made on the CPU: a GPU would be waited for
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
    """Ids, mask and labels [width] of a record's length, with random tokens that are its own."""
    tokens, labelled = of.tokens[example], of.labels[example]
    drawn = torch.Generator().manual_seed(example)
    ids = torch.zeros(width, dtype=torch.int64)
    ids[:tokens] = torch.randint(0, vocabulary, (tokens,), generator=drawn)
    labels = torch.full((width,), IGNORED)
    labels[tokens - labelled : tokens] = ids[tokens - labelled : tokens]
    return ids, (torch.arange(width) < tokens).long(), labels


def counted(shape: Shape, of: lengths.Lengths) -> dict[str, dict[str, float]]:
    """What an epoch computes, exactly: all of its full steps."""
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
    """Steps of the epoch, one a round, each in all three ways; the optimiser has no part in it."""
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
    """An epoch counted, some steps of it timed."""
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
