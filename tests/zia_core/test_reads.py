"""A step waits for the device only once, to read all of its numbers together."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from tests.zia_core.reads import reads_of_steps
from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_model, toy_settings
from zia_core import ZeroInitConfig, attach
from zia_core.engine import Interrupted, train
from zia_core.losses import causal_lm_loss, label_index


class Indexed(ToyTask):
    """ToyTask with label positions computed on the CPU, as in the experiments."""

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        batch = super().batch(indices)
        return batch | {"label_index": label_index(batch["labels"])}

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {}


class CountsThere(Indexed):
    """Counts its labels on the device."""

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int | Tensor]:
        loss, _ = super().loss(model, batch)
        return loss, (batch["labels"][:, 1:] != -100).sum()


class Unmasked(Indexed):
    """Its batches have no mask: padding comes last, where no causal query sees it."""

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        return super().batch(indices) | {"attention_mask": torch.empty(0)}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int | Tensor]:
        return causal_lm_loss(
            model, batch["input_ids"], None, batch["labels"], batch["label_index"]
        )


def adapted() -> nn.Module:
    return attach(toy_model(), ZeroInitConfig(prompt_length=3, num_layers=2, gate_init=0.5))


@pytest.mark.parametrize("task", [Indexed, CountsThere, Unmasked])
@pytest.mark.parametrize(
    "changes",
    [{}, {"token_budget": 16}, {"clip_norm": 0.1}, {"checkpoint_activations": True}],
    ids=str,
)
def test_a_step_reads_once(tmp_path: Path, task: type[ToyTask], changes: dict[str, Any]) -> None:
    settings, journal = toy_settings(**changes), FolderJournal(tmp_path)
    with reads_of_steps() as reads:
        train(adapted(), task(), settings, journal)
    assert reads.found == []
    assert reads.together == settings.total_steps == len(journal.losses())


def test_what_waits_is_seen(tmp_path: Path) -> None:
    """The counter itself: labels selected by a mask, and a number read."""

    class Curious(ToyTask):
        def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
            loss, labels = super().loss(model, batch)
            assert loss > 0
            return loss, labels

    with reads_of_steps() as reads:
        train(toy_model(), Curious(), toy_settings(), FolderJournal(tmp_path))
    assert sorted(set(reads.found)) == ["_local_scalar_dense", "nonzero"]


def test_counts_on_the_device_are_the_tasks(tmp_path: Path) -> None:
    for name, task in (("here", Indexed()), ("there", CountsThere())):
        train(adapted(), task, toy_settings(), FolderJournal(tmp_path / name))
    here, there = ((tmp_path / name / "metrics.jsonl").read_bytes() for name in ("here", "there"))
    assert here == there


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_cuda_is_waited_for_once_a_step(tmp_path: Path) -> None:
    class Watching(FolderJournal):
        """Watches from the check before a step to its first record."""

        def stop_requested(self) -> str | None:
            torch.cuda.set_sync_debug_mode("warn" if self.last_step > 1 else "default")
            return super().stop_requested()

        def metrics(self, record: dict[str, Any]) -> None:
            torch.cuda.set_sync_debug_mode("default")
            super().metrics(record)

    settings = toy_settings(device="cuda", eval_every=0, checkpoint_every=0, token_budget=16)
    task = CountsThere()
    model = adapted().cuda()
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        train(model, task, settings, Watching(tmp_path))
    waits = [str(each.message) for each in seen if "called a synchron" in str(each.message)]
    assert len(waits) == settings.total_steps - 2, waits


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_a_run_resumed_on_cuda_goes_on_with_its_optimiser(tmp_path: Path) -> None:
    """Fused AdamW counts steps on the device; a run started on a CPU may continue there."""
    settings = toy_settings(device="cuda", eval_every=0, checkpoint_every=1)
    task: Any = Indexed()
    whole, cut = FolderJournal(tmp_path / "whole"), FolderJournal(tmp_path / "cut", stop_after=4)
    train(adapted().cuda(), task, settings, whole)
    with pytest.raises(Interrupted):
        train(adapted().cuda(), task, settings, cut)
    resumed = FolderJournal(tmp_path / "cut")
    train(adapted().cuda(), task, settings, resumed)
    assert resumed.losses() == pytest.approx(whole.losses(), rel=1e-5)
