"""Gates and the prompts' share, against the outputs of the layer itself."""

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.backbones import build, inputs, open_gates, output
from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_model, toy_settings
from zia_core import ZeroInitConfig, ZiaError, attach, zero_init_layers
from zia_core.engine import train
from zia_core.observe import gate_strengths, numbered_layers, observed

PROJECTIONS = {  # the output projection of the top layer
    "llama-gqa": "model.layers.2.self_attn.o_proj",
    "gemma2": "model.layers.2.self_attn.o_proj",
    "timm": "blocks.2.attn.proj",
}


def attended(model: nn.Module, projection: str, batches: list[Any]) -> Tensor:
    """Output of the top layer's attention before its projection, [all positions, H, D]."""
    found: list[Tensor] = []
    handle = model.get_submodule(projection).register_forward_pre_hook(
        lambda module, arguments: found.append(arguments[0].detach())
    )
    for batch in batches:
        output(model, batch)
    handle.remove()
    return torch.cat([one.flatten(0, 1) for one in found]).unflatten(-1, (4, -1)).double()


@pytest.mark.parametrize("gate_per", ["head", "layer"])
@pytest.mark.parametrize("family", PROJECTIONS)
def test_share_is_what_the_gates_add_over_what_was_there(family: str, gate_per: str) -> None:
    # Only in the topmost layer, whose input does not depend on its gates.
    model = attach(build(family), ZeroInitConfig(prompt_length=5, num_layers=1, gate_per=gate_per))
    batches = [inputs(family), {k: v.flip(0)[:1] for k, v in inputs(family).items()}]
    words = attended(model, PROJECTIONS[family], batches)
    open_gates(model)
    both = attended(model, PROJECTIONS[family], batches)
    expected = (both - words).norm(dim=(0, 2)) / words.norm(dim=(0, 2))
    assert expected.min() > 0.01
    before = output(model, batches[0])
    with observed(model) as norms:
        for batch in batches:
            assert torch.equal(output(model, batch), before) or batch is not batches[0]
    assert norms.keys() == {2}
    torch.testing.assert_close(
        torch.tensor(norms[2].share(), dtype=torch.float64), expected, rtol=1e-4, atol=0
    )


def test_nothing_is_observed_behind_the_block_or_after_an_error() -> None:
    model = open_gates(attach(build("llama-gqa"), ZeroInitConfig(prompt_length=5, num_layers=2)))
    norms = {}

    def interrupted() -> None:
        with observed(model) as found:
            norms.update(found)
            output(model, inputs("llama-gqa"))
            raise RuntimeError("on purpose")

    with pytest.raises(RuntimeError, match="on purpose"):
        interrupted()
    seen = norms[1].share()
    output(model, inputs("llama-gqa"))
    assert norms[1].share() == seen
    assert all(layer.state.observer is None for layer in zero_init_layers(model))


def test_a_block_without_a_pass_is_refused() -> None:
    model = attach(build("llama-gqa"), ZeroInitConfig(prompt_length=5, num_layers=2))
    with observed(model) as norms:
        pass
    with pytest.raises(ZiaError, match="call the model within the block"):
        norms[1].share()


def test_one_softmax_has_no_terms_and_no_gates() -> None:
    config = ZeroInitConfig(prompt_length=5, num_layers=2, softmax="joint")
    model = attach(build("llama-gqa"), config)
    with observed(model) as norms:
        output(model, inputs("llama-gqa"))
    assert norms == {}
    assert gate_strengths(model) == {}
    assert list(numbered_layers(model)) == [1, 2]


def test_gates_are_those_that_the_layers_use() -> None:
    model = open_gates(attach(build("timm"), ZeroInitConfig(prompt_length=5, num_layers=2)))
    layers = numbered_layers(model)
    strengths = gate_strengths(model)
    assert list(strengths) == ["1", "2"]
    for number, layer in layers.items():
        expected = torch.tanh(layer.gate.detach())
        torch.testing.assert_close(torch.tensor(strengths[str(number)]), expected)


def test_an_evaluation_records_the_gates(tmp_path: Path) -> None:
    model = attach(toy_model(), ZeroInitConfig(prompt_length=3, num_layers=2))
    journal = FolderJournal(tmp_path)
    train(model, ToyTask(), toy_settings(total_steps=3), journal)
    evaluations = [record for record in journal.read() if "eval" in record]
    assert evaluations[0]["gates"] == {"0": [0.0, 0.0], "1": [0.0, 0.0]}
    assert evaluations[-1]["gates"] == gate_strengths(model)
    assert min(map(abs, evaluations[-1]["gates"]["1"])) > 0
    assert not any("gates" in record for record in journal.read() if "loss" in record)
