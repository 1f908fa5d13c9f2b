"""Sample from a seed so that a row's answer does not depend on the rows beside it."""

from typing import Any

import torch
from torch import Tensor
from transformers import (
    LogitsProcessorList,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from experiments.harness.chat import Decoding


class SeededNoise:
    """Gumbel noise, with which the largest score is a draw from the softmax of the scores.

    Every row gets the same noise, made on the CPU: the same seed gives the same answer alone, in a
    batch and on any device, and models that agree draw the same tokens.
    """

    def __init__(self, seed: int) -> None:
        self._generator = torch.Generator().manual_seed(seed)

    def __call__(self, input_ids: Tensor, scores: Tensor) -> Tensor:
        """Scores (B, V) with noise, in float64."""
        drawn = torch.empty(scores.shape[-1], dtype=torch.float64)
        noise = -drawn.exponential_(generator=self._generator).log()
        return scores + noise.to(scores.device)


def processors(decoding: Decoding) -> LogitsProcessorList:
    """What changes the scores before the largest is taken, in transformers' order."""
    if not decoding.temperature:
        return LogitsProcessorList()
    changes: list[Any] = [TemperatureLogitsWarper(float(decoding.temperature))]
    if decoding.top_k is not None:
        changes.append(TopKLogitsWarper(decoding.top_k))
    if decoding.top_p is not None:
        changes.append(TopPLogitsWarper(float(decoding.top_p)))
    return LogitsProcessorList([*changes, SeededNoise(decoding.seed)])
