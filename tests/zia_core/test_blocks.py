"""Checkpointed and compiled blocks compute what plain ones do."""

import functools
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from peft import LoraConfig, get_peft_model
from torch import Tensor, nn

from tests.zia_core.backbones import build
from tests.zia_core.ranks_at_work import ImagesAndWords
from tests.zia_core.toy_training import (
    FolderJournal,
    ToyTask,
    toy_model,
    toy_settings,
    trained,
    without_dropout,
)
from tests.zia_core.visual_reference import seeing
from zia_core import ZeroInitConfig, attach
from zia_core.blocks import repeated_blocks, run_blocks
from zia_core.engine import train
from zia_core.errors import ZiaError
from zia_core.losses import causal_lm_loss, label_index
from zia_core.memory import bytes_kept_for_backward

TOLERANCE = 1e-5  # relative, of compiled losses in float32, as stated in `TrainSettings`


def adapted() -> nn.Module:
    """A model with dropout and open gates."""
    return attach(toy_model(), ZeroInitConfig(prompt_length=3, num_layers=2, gate_init=0.5))


def seeing_model() -> nn.Module:
    return seeing("llama-gqa", "global")


def run(folder: Path, model: nn.Module, task: ToyTask, **changes: Any) -> FolderJournal:
    journal = FolderJournal(folder)
    train(model, task, toy_settings(total_steps=4, **changes), journal)
    return journal


@pytest.mark.parametrize("family", ["llama-gqa", "roberta", "gemma3"])
def test_blocks_are_the_layers(family: str) -> None:
    model = attach(build(family), ZeroInitConfig(prompt_length=2, num_layers=2))
    kinds = {type(block).__name__ for block in repeated_blocks(model)}
    assert len(kinds) == 1
    assert kinds.pop().endswith("Layer")
    assert len(repeated_blocks(model)) == model.config.get_text_config().num_hidden_layers


def test_blocks_behind_wrappers_and_of_timm() -> None:
    peft = get_peft_model(toy_model(), LoraConfig(target_modules=["q_proj", "v_proj"]))
    assert repeated_blocks(peft) == list(peft.get_base_model().model.layers)
    vit = timm.create_model("vit_tiny_patch16_224", depth=3)
    assert repeated_blocks(vit) == list(vit.blocks)
    with pytest.raises(ZiaError, match="Linear has no stack of blocks of one kind; train it with"):
        repeated_blocks(nn.Linear(2, 2))


@pytest.mark.parametrize("task", [ToyTask, ImagesAndWords])
def test_checkpointed_training_is_bitwise_the_plain_one(
    tmp_path: Path, task: type[ToyTask]
) -> None:
    """With dropout, and with the block of images left before the backward pass."""
    make = seeing_model if task is ImagesAndWords else adapted
    plain, saving = make(), make()
    expected = run(tmp_path / "plain", plain, task())
    found = run(tmp_path / "saving", saving, task(), checkpoint_activations=True)
    assert found.read() == expected.read()
    assert all(torch.equal(trained(saving)[name], value) for name, value in trained(plain).items())


def test_checkpointed_blocks_keep_their_inputs_alone() -> None:
    model = adapted()
    batch = ToyTask().batch([0, 1, 2, 3])

    def loss() -> Tensor:
        return causal_lm_loss(model, **batch)[0]

    plain = bytes_kept_for_backward(loss, model.parameters())
    with run_blocks(model, compiled=False, checkpointed=True):
        assert bytes_kept_for_backward(loss, model.parameters()) < plain / 2


@pytest.fixture
def graphs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Compile to graphs with guards, but not to kernels, which takes minutes."""
    found: list[Any] = []

    def backend(graph: Any, inputs: Any) -> Any:
        found.append(graph)
        return torch._dynamo.lookup_backend("aot_eager")(graph, inputs)

    torch._dynamo.reset()
    monkeypatch.setattr(torch, "compile", functools.partial(torch.compile, backend=backend))
    return found


def test_compiled_training_is_the_plain_one_within_its_tolerance(
    tmp_path: Path, graphs: list[Any]
) -> None:
    """Also with checkpointing: the recomputed block is the compiled one."""
    plain, compiled = seeing_model(), seeing_model()
    task, settings = ImagesAndWords(), {"token_budget": None, "micro_batch_size": 5}
    expected = run(tmp_path / "plain", plain, task, **settings)
    changes = settings | {"compile": True, "checkpoint_activations": True}
    found = run(tmp_path / "compiled", compiled, task, **changes)
    assert found.losses() == pytest.approx(expected.losses(), rel=TOLERANCE)
    for name, value in trained(plain).items():
        torch.testing.assert_close(trained(compiled)[name], value, rtol=1e-3, atol=1e-5)
    assert graphs
    assert found.read()[0] == expected.read()[0]  # evaluations are not compiled: bitwise


@pytest.mark.parametrize("layers", [3, 5])
def test_graphs_do_not_grow_with_the_layers_or_the_shapes(graphs: list[Any], layers: int) -> None:
    """Layers below, at and above the lowest trained one."""
    bare = toy_model(layers=layers)
    model = attach(bare, ZeroInitConfig(prompt_length=3, num_layers=layers - 1, gate_init=0.5))
    with run_blocks(model, compiled=True, checkpointed=False):
        for shape in ((3, 40), (5, 56)):  # of no other size in the model
            ids = torch.randint(0, 64, shape)
            mask = torch.ones_like(ids)
            mask[0, -3:] = 0
            causal_lm_loss(model, ids, mask, ids, label_index(ids))[0].backward()
    assert len(graphs) <= 4


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("half", [False, True])
def test_compiled_losses_on_cuda(tmp_path: Path, half: bool) -> None:
    """With kernels, within the tolerance of `TrainSettings`."""
    precision = "bf16-autocast" if half else "fp32"
    settings = {"device": "cuda", "precision": precision, "eval_every": 0, "total_steps": 4}
    losses = []
    for compiled in (False, True):
        torch._dynamo.reset()
        task: Any = ToyTask()
        task.evaluate = lambda model: {}
        model = attach(without_dropout(toy_model()), ZeroInitConfig(3, 2, gate_init=0.5)).cuda()
        journal = FolderJournal(tmp_path / str(compiled))
        train(model, task, toy_settings(compile=compiled, **settings), journal)
        losses.append(journal.losses())
    assert losses[1] == pytest.approx(losses[0], rel=2e-2 if half else TOLERANCE)


def test_the_model_is_left_as_it_was(tmp_path: Path) -> None:
    model = adapted()
    names = [set(vars(block)) for block in repeated_blocks(model)]
    run(tmp_path, model, ToyTask(), checkpoint_activations=True)
    assert [set(vars(block)) for block in repeated_blocks(model)] == names
