"""Choose the examples of an optimiser step and split them into micro-batches.

The examples of a step are a pure function of (number of examples, batch size, seed, step), so there
is nothing to checkpoint. The split affects memory and padding, never the choice of examples.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch

from zia_core.errors import ZiaError
from zia_core.rng import derived_seed

# Fixed cost of a micro-batch (reading weights, launching kernels), in tokens. At 0 the cheapest
# split is one example at a time; the exact value matters little.
OVERHEAD_TOKENS = 64


def epoch_order(n: int, seed: int, epoch: int) -> list[int]:
    """The permutation of `range(n)` in which an epoch visits the examples."""
    return list(_order(n, seed, epoch))


@lru_cache(maxsize=2)  # every step of an epoch asks for it
def _order(n: int, seed: int, epoch: int) -> tuple[int, ...]:
    generator = torch.Generator().manual_seed(derived_seed(seed, "epoch", epoch))
    return tuple(torch.randperm(n, generator=generator).tolist())


def steps_per_epoch(n: int, batch_size: int) -> int:
    """Full batches in `n` examples; the remainder is dropped, as in the released code.

    Raises:
        ZiaError: fewer examples than one batch.
    """
    if n < batch_size:
        raise ZiaError(
            f"the training split has {n} examples, fewer than one batch of {batch_size}: "
            "lower batch_size or give more examples"
        )
    return n // batch_size


def examples_of_step(n: int, batch_size: int, seed: int, step: int) -> list[int]:
    """The `batch_size` examples of one optimiser step; `step` counts from 0 over all epochs."""
    epoch, position = divmod(step, steps_per_epoch(n, batch_size))
    return list(_order(n, seed, epoch)[position * batch_size : (position + 1) * batch_size])


def fixed_micro_batches(n: int, size: int) -> list[list[int]]:
    """Positions 0..n-1 in consecutive chunks of `size` (the last may be shorter).

    These are the released code's micro-batches.
    """
    return [list(range(start, min(start + size, n))) for start in range(0, n, size)]


def token_micro_batches(
    lengths: Sequence[int], token_budget: int, overhead_tokens: int = OVERHEAD_TOKENS
) -> list[list[int]]:
    """Positions into `lengths`, grouped to minimise padding.

    Examples are sorted by length, longest first, and split into consecutive groups, each padded to
    its longest. Of all splits with at most `token_budget` padded tokens per group, dynamic
    programming, O(n^2), finds the one with the least total `padded tokens + overhead_tokens`. An
    example longer than the budget is a group of its own.
    """
    order = sorted(range(len(lengths)), key=lambda position: -lengths[position])
    cheapest = [0]  # cheapest[end]: cost of the best split of the `end` longest examples
    last_start = [0]  # last_start[end]: where that split's last group starts
    for end in range(1, len(order) + 1):
        best_cost, best_start = None, end - 1
        for start in range(end - 1, -1, -1):
            padded = (end - start) * lengths[order[start]]
            if padded > token_budget and end - start > 1:
                break  # a wider group is also padded to a longer example
            cost = cheapest[start] + padded + overhead_tokens
            if best_cost is None or cost < best_cost:
                best_cost, best_start = cost, start
        assert best_cost is not None
        cheapest.append(best_cost)
        last_start.append(best_start)

    groups = []
    end = len(order)
    while end > 0:
        groups.append(order[last_start[end] : end])
        end = last_start[end]
    return groups[::-1]
