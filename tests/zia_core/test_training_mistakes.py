"""Mistakes around `attach` are warned of, each once: at the optimiser's first step or at a save."""

import copy
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn
from torch.optim import SGD, AdamW, Optimizer

from tests.zia_core.backbones import build, inputs, output
from zia_core import ZeroInitConfig, attach, detach, save_adapter, train_head, zero_init_layers

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


def test_no_gradient_reaches_the_prompts() -> None:
    """As through layers whose products have none."""
    model = train_head(attach(build("bert"), CONFIG))
    model.qa_outputs.register_forward_pre_hook(lambda _, given: (given[0].detach(),))
    (sentence,) = warned(model, SGD(trainable(model), 0.1), family="bert")
    assert "no gradient has reached prompts and gates" in sentence
    assert not warned(model, SGD(trainable(model), 0.1), family="bert"), "once"


def test_prompts_in_half_precision() -> None:
    model = attach(build("llama-gqa"), CONFIG).bfloat16()
    (sentence,) = warned(model, SGD(trainable(model), 0.1))
    assert "trained in torch.bfloat16, which loses small updates" in sentence
    model = attach(build("llama-gqa").bfloat16(), CONFIG)
    assert not warned(model, SGD(trainable(model), 0.1))
    for layer in zero_init_layers(model):  # as the sentence says
        layer.bfloat16().float()
    assert not warned(model, SGD(trainable(model), 0.1))


def with_lora(model: nn.Module) -> Any:
    peft = pytest.importorskip("peft")
    return peft.get_peft_model(model, peft.LoraConfig(target_modules=["q_proj"]))


def test_peft_has_frozen_the_prompts() -> None:
    model = with_lora(attach(build("llama-gqa"), CONFIG))
    (sentence,) = warned(model, SGD(trainable(model), 0.1))
    assert "call get_peft_model() before attach()" in sentence
    model = attach(with_lora(build("llama-gqa")), CONFIG)
    model.set_adapter("default")
    assert not warned(model, SGD(trainable(model), 0.1))


def saved(*saves: Callable[[], object]) -> list[str]:
    with warnings.catch_warnings(record=True) as found:
        warnings.simplefilter("always")
        for save in saves:
            save()
    return [str(each.message) for each in found if each.category is UserWarning]


@pytest.mark.parametrize("wrap", [lambda m: m, with_lora], ids=["bare", "PEFT"])
def test_save_pretrained_is_not_how_an_adapter_is_saved(
    wrap: Callable[[nn.Module], Any], tmp_path: Path
) -> None:
    model = attach(wrap(build("llama-gqa")), CONFIG)
    twice = (lambda: model.save_pretrained(tmp_path / "one"),) * 2
    (sentence,) = saved(*twice)
    assert "from_pretrained will not load the prompts and gates" in sentence
    assert not saved(lambda: copy.deepcopy(model).save_pretrained(tmp_path / "one"))
    model = attach(wrap(build("llama-gqa")), CONFIG)
    save_adapter(model, tmp_path / "two")
    assert not saved(lambda: model.save_pretrained(tmp_path / "beside"))
    model = attach(wrap(build("llama-gqa")), CONFIG)
    assert not saved(lambda: model.save_pretrained(tmp_path / "no", is_main_process=False))
    detach(model)
    assert "save_pretrained" not in vars(model)
    assert not saved(lambda: model.save_pretrained(tmp_path / "three"))


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
