"""Measure gates and the prompts' share of the output in a trained model.

A head's share is |a(g) A_p V_p| / |A_w V_w|: attention to the K prompts over attention to the
words, with norms over all observed positions and the head's width.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import torch
from torch import Tensor, nn

from zia_core.call_state import CallState, within_call
from zia_core.errors import ZiaError
from zia_core.layer import ZeroInit

__all__ = ["gate_strengths", "observed"]


def numbered_layers(model: nn.Module) -> dict[int, ZeroInit]:
    """The adapted layers by their index in the backbone, lowest 0."""
    layers = {}
    for name, module in model.named_modules():
        if isinstance(module, ZeroInit) and module.owner is None:
            numbers = re.findall(r"(?:^|\.)(\d+)(?=\.)", name)
            layers[int(numbers[-1])] = module
    return layers


def gate_strengths(model: nn.Module) -> dict[str, list[float]]:
    """The gates after their activation, a(g), of every head (or the layer's one gate).

    Returns:
        Gates by layer, rounded to six digits; the lowest layer of the backbone is "0", a string as
        in JSON. Empty with the joint softmax, which has no gates.
    """
    return {
        str(number): [float(f"{gate:.6g}") for gate in layer.strength().detach().tolist()]
        for number, layer in numbered_layers(model).items()
        if layer.config.softmax == "separate"
    }


class TermNorms:
    """Sums of squares of one layer's two terms, [H] each in float64."""

    def __init__(self) -> None:
        self.prompts: Tensor | float = 0.0
        self.words: Tensor | float = 0.0

    def add(self, words_BTHD: Tensor, prompts_BTHD: Tensor) -> None:
        """Add a forward pass. Every position counts, so do not pad."""
        self.words = self.words + words_BTHD.detach().double().square().sum((0, 1, 3))
        self.prompts = self.prompts + prompts_BTHD.detach().double().square().sum((0, 1, 3))

    def share(self) -> list[float]:
        """|a(g) A_p V_p| / |A_w V_w| of every head."""
        if not isinstance(self.prompts, Tensor) or not isinstance(self.words, Tensor):
            raise ZiaError("no forward pass was observed: call the model within the block")
        return (self.prompts / self.words).sqrt().tolist()


@contextmanager
def observed(model: nn.Module) -> Iterator[dict[int, TermNorms]]:
    """Measure both terms of every gated layer in the forward passes within the block.

    Autograd is off in it. Every position counts, so do not pad.

    Yields:
        Measurements by layer number, lowest 0. After the block, `share()` of one is a list with
        |a(g) A_p V_p| / |A_w V_w| of each of the H heads. Empty with the joint softmax, which has
        no separate terms.
    """
    layers = {
        number: layer
        for number, layer in numbered_layers(model).items()
        if layer.config.softmax == "separate"
    }
    found = {number: TermNorms() for number in layers}
    states: dict[nn.Module, CallState] = {
        layer: replace(layer.state, observer=found[number].add) for number, layer in layers.items()
    }
    with within_call(states), torch.no_grad():
        yield found
