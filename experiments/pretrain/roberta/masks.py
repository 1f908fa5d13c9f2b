"""Mask words as BERT does (80 / 10 / 10 %), but the values of facts more often."""

from typing import TYPE_CHECKING

from experiments.mini_world.creatures import known
from experiments.mini_world.words import VALUES

if TYPE_CHECKING:
    from torch import Generator, Tensor
    from transformers import PreTrainedTokenizerBase

WORDS, FACTS = 0.12, 0.35  # masked shares of ordinary tokens, and of values and names
IGNORED = -100


def fact_tokens(tokenizer: "PreTrainedTokenizerBase") -> "Tensor":
    """Bool [vocabulary]: whether a token is a value of an attribute or a creature's name."""
    import torch

    names = [creature.name for part in known().values() for creature in part]
    found = torch.zeros(len(tokenizer), dtype=torch.bool)
    for word in (*names, *(value for values in VALUES.values() for value in values)):
        ids = tokenizer(f" {word}", add_special_tokens=False)["input_ids"]
        found[ids if len(ids) == 1 else []] = True
    return found


def corrupted(
    ids: "Tensor", facts: "Tensor", mask: int, special: int, generator: "Generator"
) -> tuple["Tensor", "Tensor"]:
    """Return tokens [N] with some masked, and labels [N], -100 for the others.

    Of the masked ones, 80 % become `mask`, 10 % any token, and 10 % stay. The first `special`
    tokens of the vocabulary are never masked.
    """
    import torch

    draws = torch.rand(3, len(ids), generator=generator)
    rates = torch.where(facts[ids], FACTS, WORDS) * (ids >= special)
    chosen = draws[0] < rates
    labels = torch.where(chosen, ids, IGNORED)
    other = torch.randint(special, len(facts), ids.shape, generator=generator)
    masked = torch.where(draws[1] < 0.8, mask, torch.where(draws[2] < 0.5, other, ids))
    return torch.where(chosen, masked, ids), labels
