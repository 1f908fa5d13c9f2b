import math
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_model, toy_settings, trained
from zia_core.batching import examples_of_step
from zia_core.engine import Interrupted, NonFiniteLoss, train
from zia_core.errors import ZiaError


def poisoned(record: int) -> tuple[nn.Module, ToyTask]:
    """A model with a NaN embedding for a token that only one record has."""
    model, task = toy_model(), ToyTask()
    task.tokens[record][1] = 63
    with torch.no_grad():
        model.model.embed_tokens.weight[63] = math.nan
    return model, task


def test_a_nan_loss_ends_the_run_before_the_step(tmp_path: Path) -> None:
    step = 3
    record = examples_of_step(22, 5, seed=1, step=step)[2]
    model, task = poisoned(record)
    task.evaluate = lambda model: {}
    settings = toy_settings(token_budget=None, micro_batch_size=1)
    journal = FolderJournal(tmp_path)
    with pytest.raises(NonFiniteLoss, match=f"^the loss is nan at step 4, records toy-{record}$"):
        train(model, task, settings, journal)
    assert len(journal.losses()) == step
    healthy, expected = ToyTask(), toy_model()
    healthy.evaluate = lambda model: {}
    with pytest.raises(Interrupted):
        train(expected, healthy, settings, FolderJournal(tmp_path / "healthy", stop_after=step))
    assert all(torch.equal(trained(model)[n], value) for n, value in trained(expected).items())


def test_an_infinite_gradient_names_at_most_16_records(tmp_path: Path) -> None:
    class SteepTask(ToyTask):
        def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
            loss, n = super().loss(model, batch)
            return loss + (model.lm_head.weight * 0).abs().sqrt().sum(), n  # slope: infinity * 0

    model = toy_model()
    before = trained(model)
    sentence = r"^the gradient norm is nan at step 1, records (toy-\d+, ){15}toy-\d+ and 2 more$"
    with pytest.raises(NonFiniteLoss, match=sentence):
        train(model, SteepTask(), toy_settings(batch_size=18), FolderJournal(tmp_path))
    assert all(torch.equal(trained(model)[n], value) for n, value in before.items())


def test_a_nan_evaluation_ends_the_run(tmp_path: Path) -> None:
    model, task = poisoned(0)
    with pytest.raises(NonFiniteLoss, match=r"^the evaluation after step 0 gives val_loss = nan$"):
        train(model, task, toy_settings(), FolderJournal(tmp_path))


def test_autocast_covers_training_and_evaluation_and_keeps_weights(tmp_path: Path) -> None:
    seen = []

    class WatchingTask(ToyTask):
        def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
            seen.append((torch.is_autocast_enabled("cpu"), torch.get_autocast_dtype("cpu")))
            return super().loss(model, batch)

    model = toy_model()
    settings = toy_settings(precision="bf16-autocast")
    journal = FolderJournal(tmp_path)
    train(model, WatchingTask(), settings, journal)
    assert set(seen) == {(True, torch.bfloat16)}
    assert {p.dtype for p in model.parameters()} == {torch.float32}
    assert journal.losses()[-1] < journal.losses()[0]


class Mixed(nn.Module):
    """A frozen bfloat16 backbone with one trainable float32 weight."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone = toy_model().requires_grad_(False).bfloat16()
        self.scale = nn.Parameter(torch.ones(()))


class MixedTask(ToyTask):
    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        loss, n = super().loss(model.backbone, batch)
        return loss * model.scale, n


def test_a_bf16_backbone_with_a_float32_parameter_trains(tmp_path: Path) -> None:
    model = Mixed()
    train(model, MixedTask(), toy_settings(precision="bf16"), FolderJournal(tmp_path))
    assert model.scale.dtype == torch.float32
    assert model.scale < 1


@pytest.mark.parametrize(
    ("model", "precision", "sentence"),
    [
        (
            lambda: toy_model().bfloat16(),
            "bf16",
            "q_proj.weight is trained in torch.bfloat16: convert",
        ),
        (Mixed, "fp32", "precision=fp32 does not fit a model in torch.bfloat16, torch.float32"),
        (Mixed, "bf16-autocast", "precision=bf16-autocast does not fit a model in torch.bfloat16"),
        (toy_model, "bf16", "precision=bf16 does not fit a model in torch.float32"),
        (
            lambda: toy_model().requires_grad_(False),
            "fp32",
            "the model has no parameter that requires a gradient",
        ),
    ],
)
def test_a_model_that_does_not_fit_the_settings(
    tmp_path: Path, model: Any, precision: str, sentence: str
) -> None:
    with pytest.raises(ZiaError, match=sentence):
        train(model(), MixedTask(), toy_settings(precision=precision), FolderJournal(tmp_path))


def test_a_step_without_labels_names_its_records(tmp_path: Path) -> None:
    task = ToyTask()
    task.labels = lambda index: 0
    task.evaluate = lambda model: {}
    with pytest.raises(
        ZiaError, match=r"^no label to learn from at step 1, records (toy-\d+, ){4}"
    ):
        train(toy_model(), task, toy_settings(), FolderJournal(tmp_path))


def test_a_task_that_miscounts_its_labels_is_noticed(tmp_path: Path) -> None:
    class MiscountingTask(ToyTask):
        def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
            loss, n = super().loss(model, batch)
            return loss, n + 1

    settings = toy_settings(token_budget=10_000)
    with pytest.raises(
        ZiaError, match=r"the loss counts \d+ labels where the task says \d+, at step 1"
    ):
        train(toy_model(), MiscountingTask(), settings, FolderJournal(tmp_path))


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"micro_batch_size": 2}, "exactly one of token_budget and micro_batch_size"),
        ({"token_budget": None}, "exactly one of token_budget and micro_batch_size"),
        ({"loss_reduction": "micro_batch_mean"}, "needs micro_batch_size"),
        ({"warmup_steps": 9}, "warm-up of 9 steps is longer than the whole training of 8"),
    ],
)
def test_settings_without_a_meaning_are_refused(changes: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ZiaError, match=sentence):
        toy_settings(**changes)
