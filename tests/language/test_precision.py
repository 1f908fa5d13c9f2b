"""Whatever a run does with its model is in the precision that it trained in, resumed or not."""

from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import nn
from transformers import LlamaForCausalLM

from experiments.dispatch.in_process import run_one
from experiments.harness import stored
from experiments.training.method_training import TrainedModel
from tests.alpaca_llama import world as alpaca
from tests.coco_caption import world as captions
from tests.scienceqa import world as scienceqa
from zia_core.engine import Interrupted


@pytest.fixture
def passes() -> Iterator[list[bool]]:
    """Of each pass through a LLaMA, whether it was under autocast."""
    seen: list[bool] = []

    def hook(module: nn.Module, *_: Any) -> None:
        if isinstance(module, LlamaForCausalLM):
            seen.append(torch.is_autocast_enabled("cpu"))

    handle = nn.modules.module.register_module_forward_pre_hook(hook)
    yield seen
    handle.remove()


@pytest.mark.parametrize(
    ("world", "arguments"),
    [(alpaca, ()), (captions, ("flickr8k",)), (scienceqa, ())],
    ids=["alpaca", "captions", "scienceqa"],
)
def test_every_pass_is_under_autocast(
    world: ModuleType,
    arguments: tuple[str, ...],
    passes: list[bool],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    world.prepare(tmp_path, monkeypatch)
    spec = world.spec("zero-init", *arguments, precision="bf16-autocast")
    whole = run_one(spec, tmp_path / "whole")
    assert whole.state == "done", whole.reason

    def stop(model: TrainedModel) -> None:
        raise Interrupted("asked to", model.summary.steps)

    with monkeypatch.context() as patch:  # after the training, before the first answer
        patch.setattr(TrainedModel, "stop_if_requested", stop)
        assert run_one(spec, tmp_path / "resumed").state == "preempted"
    assert run_one(spec, tmp_path / "resumed").state == "done"
    assert passes
    assert all(passes)
    one, two = (
        stored.load(tmp_path / name / spec.experiment / spec.folder_name)
        for name in ("whole", "resumed")
    )
    assert one.result["val_loss"] == two.result["val_loss"]
    assert one.predictions() == two.predictions()
