import math
from itertools import pairwise
from typing import get_args

import pytest
import torch
from torch.nn import Parameter

from tests.zia_core.backbones import build
from zia_core import ZeroInitConfig, add, attach
from zia_core.optim import Decay, learning_rate, parameter_groups, scaled_peak

PROMPT, GATE, FROZEN = "layers.0.zero_init.prompt", "layers.0.zero_init.gate", "embedding"


def named() -> dict[str, Parameter]:
    parameters = {
        name: Parameter(torch.ones(shape)) for name, shape in ((PROMPT, (10, 8)), (GATE, 4))
    }
    return parameters | {FROZEN: Parameter(torch.ones(8), requires_grad=False)}


@pytest.mark.parametrize(
    ("decay", "decayed"),
    [
        ("all", {PROMPT, GATE}),
        ("all-but-gates", {PROMPT}),
        ("matrices", {PROMPT}),
        ("none", set()),
    ],
)
def test_what_adamw_shrinks_without_a_gradient(decay: Decay, decayed: set[str]) -> None:
    parameters = named()
    optimizer = torch.optim.AdamW(parameter_groups(parameters.items(), 0.5, decay), lr=0.1)
    for parameter in parameters.values():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    assert {name for name, p in parameters.items() if not p.eq(1).all()} == decayed
    for name in decayed:
        assert torch.allclose(parameters[name], torch.tensor(1 - 0.1 * 0.5))


def test_gates_of_adapters_with_names_are_gates() -> None:
    model = build("llama-gqa")
    config = ZeroInitConfig(prompt_length=2, num_layers=2)
    add(attach(model, config), "other", config)
    names = {id(parameter): name for name, parameter in model.named_parameters()}
    groups = parameter_groups(model.named_parameters(), 0.02, "all-but-gates")
    kept = [group for group in groups if not group["weight_decay"]]
    gates = [names[id(parameter)] for group in kept for parameter in group["params"]]
    assert len(gates) == 4
    assert {name.split(".")[-1] for name in gates} == {"gate"}


@pytest.mark.parametrize("decay", get_args(Decay))
def test_each_trainable_parameter_is_in_one_group_and_no_frozen_one_is(decay: Decay) -> None:
    parameters = named()
    groups = parameter_groups(parameters.items(), 0.02, decay)
    grouped = [id(parameter) for group in groups for parameter in group["params"]]
    assert sorted(grouped) == sorted([id(parameters[PROMPT]), id(parameters[GATE])])


def test_the_default_is_the_released_codes() -> None:
    (group,) = parameter_groups(named().items(), 0.02)
    assert len(group["params"]) == 2
    assert group["weight_decay"] == 0.02


def test_a_module_can_go_at_a_share_of_the_rate() -> None:
    parameters = {
        name: Parameter(torch.ones(2)) for name in ("a.projection.up.weight", "projections.gate")
    }
    groups = parameter_groups(parameters.items(), 0.02, rates={"projection": 0.5})
    found = {id(p): group["rate"] for group in groups for p in group["params"]}
    assert [found[id(p)] for p in parameters.values()] == [0.5, 1.0]
    assert [group["rate"] for group in parameter_groups(parameters.items(), 0.02)] == [1.0]


def rate(step: int, minimum: float = 0.0) -> float:
    return learning_rate(step, peak=2.0, warmup_steps=4, total_steps=12, minimum=minimum)


def test_the_rate_is_linear_from_zero_then_half_a_cosine() -> None:
    assert [rate(step) for step in range(5)] == [0.0, 0.5, 1.0, 1.5, 2.0]
    assert rate(8) == pytest.approx(1.0)
    assert rate(10) == pytest.approx(1 - math.cos(math.pi / 4))
    after = [rate(step) for step in range(4, 13)]
    assert all(later < earlier for earlier, later in pairwise(after))
    assert after[-1] == pytest.approx(0.0, abs=1e-12)


def test_the_minimum_is_where_the_cosine_ends_and_not_in_the_warm_up() -> None:
    assert rate(0, minimum=0.5) == 0.0
    assert rate(8, minimum=0.5) == pytest.approx(1.25)
    assert rate(12, minimum=0.5) == pytest.approx(0.5)


def test_no_warm_up_starts_at_the_peak() -> None:
    assert learning_rate(0, peak=3.0, warmup_steps=0, total_steps=5) == 3.0


def test_the_released_scripts_peak() -> None:
    assert scaled_peak(9e-3, 32) == pytest.approx(1.125e-3)
    assert scaled_peak(9e-3, 64) == pytest.approx(2.25e-3)
