"""What zero-init attention does in a trained model: gates, and the share of the prompt term.

The share of a head is |a(g) A_p V_p| / |A_w V_w|, the norms being over all positions that were seen
and the head's width: how much of what the head puts out comes from the prompts.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from zia_core.calls import calling
from zia_core.errors import ZiaError
from zia_core.layer import ZeroInit


def numbered_layers(model: nn.Module) -> dict[int, ZeroInit]:
    """Return the adapted layers by their number in the backbone, 0 at the bottom."""
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, ZeroInit):
            numbers = re.findall(r"(?:^|\.)(\d+)(?=\.)", name)
            layers[int(numbers[-1])] = module
    return layers


def gate_strengths(model: nn.Module) -> dict[str, list[float]]:
    """Return a(g) of every head (or of the layer's one gate) by layer; empty without gates.

    As a record of a run: six digits, and the layers' numbers as the keys of JSON.
    """
    return {
        str(number): [float(f"{gate:.6g}") for gate in layer.strength().detach().tolist()]
        for number, layer in numbered_layers(model).items()
        if layer.config.softmax == "separate"
    }


class TermNorms:
    """Sums of squares of both terms of one layer, [H] each in float64."""

    def __init__(self) -> None:
        self.prompts: Tensor | float = 0.0
        self.words: Tensor | float = 0.0

    def add(self, words_BTHD: Tensor, prompts_BTHD: Tensor) -> None:
        """Add one forward pass; every position counts, so give it no padding."""
        self.words = self.words + words_BTHD.detach().double().square().sum((0, 1, 3))
        self.prompts = self.prompts + prompts_BTHD.detach().double().square().sum((0, 1, 3))

    def share(self) -> list[float]:
        """Return |a(g) A_p V_p| / |A_w V_w| of every head."""
        if not isinstance(self.prompts, Tensor) or not isinstance(self.words, Tensor):
            raise ZiaError("no forward pass was observed: call the model within the block")
        return (self.prompts / self.words).sqrt().tolist()


@contextmanager
def observed(model: nn.Module) -> Iterator[dict[int, TermNorms]]:
    """Within the block, sum up the norms of both terms of every layer of `model` with gates.

    Yields:
        The layers by number; read them behind the block. Empty where one softmax is over prompts
        and words, which has no terms to tell apart.
    """
    layers = {
        number: layer
        for number, layer in numbered_layers(model).items()
        if layer.config.softmax == "separate"
    }
    found = {number: TermNorms() for number in layers}
    calls = {
        layer: replace(layer.call, observer=found[number].add) for number, layer in layers.items()
    }
    with calling(calls), torch.no_grad():
        yield found
