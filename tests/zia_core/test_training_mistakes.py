"""Mistakes around `attach` are warned of at the optimiser's first step, each once."""

import warnings
from collections.abc import Callable

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tests.zia_core.backbones import build, inputs, output
from zia_core import ZeroInitConfig, attach, detach, train_head

CONFIG = ZeroInitConfig(prompt_length=3, num_layers=1)


def warned(model: nn.Module, *optimizers: Optimizer, family: str = "llama-gqa") -> list[str]:
    """The warnings of two steps of each."""
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for optimizer in (*optimizers, *optimizers):
            output(model, inputs(family)).square().mean().backward()
            optimizer.step()
    return [str(each.message) for each in found if each.category is UserWarning]


def trainable(model: nn.Module) -> list[nn.Parameter]:
    return [p for p in model.parameters() if p.requires_grad]


def test_the_whole_backbone_is_trained_again() -> None:
    model = attach(build("llama-gqa"), CONFIG)
    model.requires_grad_(True)
    (sentence,) = warned(model, SGD(model.parameters(), 0.1), AdamW(model.parameters()))
    assert sentence.startswith("LlamaForCausalLM: the whole backbone is trained")


@pytest.mark.parametrize("parameters", [lambda m: m.parameters(), trainable])
def test_the_optimiser_was_made_before(parameters: Callable[[nn.Module], list]) -> None:
    model = build("llama-gqa")
    optimizer = SGD(parameters(model), 0.1)
    (sentence,) = warned(attach(model, CONFIG), optimizer)
    assert "the optimiser has no prompts and gates" in sentence


def test_the_head_is_frozen() -> None:
    model = attach(build("bert"), CONFIG)
    (sentence,) = warned(model, SGD(trainable(model), 0.1), family="bert")
    assert "its task head is frozen; train_head(model)" in sentence


def test_each_model_has_its_own_warning() -> None:
    for _ in range(2):
        model = attach(build("llama-gqa"), CONFIG)
        assert len(warned(model.requires_grad_(True), SGD(model.parameters(), 0.1))) == 1


def test_what_is_right_is_quiet() -> None:
    model = attach(build("llama-gqa"), CONFIG)
    assert not warned(model, SGD(trainable(model), 0.1), SGD(model.parameters(), 0.1))
    compiled = torch.compile(model, backend="eager")
    assert not warned(compiled, SGD(trainable(compiled), 0.1))
    model = train_head(attach(build("bert"), CONFIG))
    head = [*model.qa_outputs.parameters()]
    prompts = [p for n, p in model.named_parameters() if "zero_init" in n]
    assert not warned(model, SGD(head, 0.1), SGD(prompts, 0.1), family="bert")
    model = detach(attach(build("llama-gqa"), CONFIG)).requires_grad_(True)
    assert not warned(model, SGD(model.parameters(), 0.1))
