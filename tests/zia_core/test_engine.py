from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.optim.optimizer import register_optimizer_step_pre_hook

from tests.zia_core.toy_training import (
    FolderJournal,
    ToyTask,
    toy_model,
    toy_settings,
    trained,
    without_dropout,
)
from zia_core.batching import examples_of_step
from zia_core.engine import train
from zia_core.optim import learning_rate


@contextmanager
def gradients_of_steps(model: nn.Module) -> Iterator[list[dict[str, Tensor]]]:
    """The gradients that the optimiser gets at each step."""
    steps: list[dict[str, Tensor]] = []

    def keep(*_: object) -> None:
        named = model.named_parameters()
        steps.append({n: p.grad.clone() for n, p in named if p.grad is not None})

    handle = register_optimizer_step_pre_hook(keep)
    try:
        yield steps
    finally:
        handle.remove()


def first_gradients(folder: Path, task: ToyTask, **changes: Any) -> dict[str, Tensor]:
    model = without_dropout(toy_model())
    with gradients_of_steps(model) as steps:
        train(
            model, task, toy_settings(total_steps=1, warmup_steps=0, **changes), folder_of(folder)
        )
    return steps[0]


def folder_of(folder: Path) -> FolderJournal:
    return FolderJournal(folder / str(len(list(folder.iterdir()))))


def assert_close(ours: dict[str, Tensor], theirs: dict[str, Tensor], relative: float) -> None:
    assert ours.keys() == theirs.keys()
    for name, tensor in ours.items():
        assert (tensor - theirs[name]).norm() <= relative * theirs[name].norm(), name


def test_micro_batches_by_length_have_the_padded_batchs_gradients(tmp_path: Path) -> None:
    task, sizes = ToyTask(), []
    task.batch = lambda indices: sizes.append(len(indices)) or ToyTask.batch(task, indices)
    padded = first_gradients(tmp_path, task, batch_size=16, token_budget=10_000)
    sizes.clear()
    cut = first_gradients(tmp_path, task, batch_size=16, token_budget=70)
    assert len([size for size in sizes if size < 16]) > 5
    assert_close(cut, padded, 1e-5)
    sizes.clear()
    first_gradients(tmp_path, task, batch_size=16, token_budget=10_000, overhead_tokens=0)
    assert len([size for size in sizes if size < 16]) > 5  # the budget is used
    sizes.clear()
    whole = first_gradients(tmp_path, task, batch_size=16, token_budget=10_000, overhead_tokens=999)
    assert 16 in sizes
    assert_close(whole, padded, 1e-5)
    fixed = first_gradients(tmp_path, task, batch_size=16, token_budget=None, micro_batch_size=3)
    assert_close(fixed, padded, 1e-5)


def gradient_of(task: ToyTask, groups: Sequence[Sequence[int]]) -> dict[str, Tensor]:
    """Gradient of the mean over groups of each group's mean loss, by the model's own loss."""
    model = without_dropout(toy_model())
    sum(model(**task.batch(group)).loss for group in groups).div(len(groups)).backward()
    return {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


def test_the_two_loss_reductions(tmp_path: Path) -> None:
    task = ToyTask()
    examples = examples_of_step(len(task), 5, seed=1, step=0)
    by_label = first_gradients(tmp_path, task)
    assert_close(by_label, gradient_of(task, [examples]), 1e-5)

    released = {"token_budget": None, "micro_batch_size": 2, "loss_reduction": "micro_batch_mean"}
    by_micro_batch = first_gradients(tmp_path, task, **released)
    groups = [examples[0:2], examples[2:4], examples[4:5]]
    assert_close(by_micro_batch, gradient_of(task, groups), 1e-5)
    with pytest.raises(AssertionError):
        assert_close(by_micro_batch, by_label, 1e-2)


def test_training_is_a_plain_loop_of_adamw(tmp_path: Path) -> None:
    task, settings = ToyTask(), toy_settings(clip_norm=0.5)
    model = without_dropout(toy_model())
    journal = FolderJournal(tmp_path)
    train(model, task, settings, journal)

    plain = without_dropout(toy_model())
    parameters = [p for p in plain.parameters() if p.requires_grad]
    adamw = torch.optim.AdamW(parameters, betas=(0.9, 0.95), eps=1e-8, weight_decay=0.02)
    for step, record in enumerate(r for r in journal.read() if "loss" in r):
        loss = plain(**task.batch(examples_of_step(len(task), 5, 1, step))).loss
        adamw.zero_grad()
        loss.backward()
        norm = torch.nn.utils.clip_grad_norm_(parameters, 0.5)
        lr = learning_rate(step, peak=0.01, warmup_steps=2, total_steps=8)
        adamw.param_groups[0]["lr"] = lr
        adamw.step()
        assert record["loss"] == pytest.approx(loss.item(), rel=1e-5)
        assert record["grad_norm"] == pytest.approx(norm.item(), rel=1e-4)
        assert record["lr"] == lr
    assert_close(trained(model), trained(plain), 1e-5)
    assert journal.losses()[-1] < journal.losses()[0]


def test_only_clipping_bounds_the_gradient(tmp_path: Path) -> None:
    def norm(gradients: dict[str, Tensor]) -> float:
        return torch.stack([g.norm() for g in gradients.values()]).norm().item()

    free = first_gradients(tmp_path, ToyTask())
    assert norm(free) > 0.2
    clipped = first_gradients(tmp_path, ToyTask(), clip_norm=0.1)
    assert norm(clipped) == pytest.approx(0.1, rel=1e-3)
    # The record keeps the norm before clipping.
    record = FolderJournal(tmp_path / "1").read()[1]
    assert record["grad_norm"] == pytest.approx(norm(free), rel=1e-5)


def test_what_is_recorded(tmp_path: Path) -> None:
    task, journal = ToyTask(), FolderJournal(tmp_path)
    summary = train(toy_model(), task, toy_settings(total_steps=5), journal)
    records = journal.read()
    kinds = [(r["step"], "eval" if "eval" in r else "loss") for r in records]
    assert kinds == [
        *[(0, "eval"), (1, "loss"), (2, "loss"), (2, "eval"), (3, "loss"), (4, "loss")],
        *[(4, "eval"), (5, "loss"), (5, "eval")],
    ]
    steps = [r for r in records if "loss" in r]
    assert all(r.keys() == {"step", "epoch", "loss", "lr", "grad_norm", "labels"} for r in steps)
    assert [r["epoch"] for r in steps] == [0.25, 0.5, 0.75, 1.0, 1.25]  # 22 examples, batches of 5
    examples = [examples_of_step(22, 5, 1, step) for step in range(5)]
    assert [r["labels"] for r in steps] == [sum(map(task.labels, five)) for five in examples]

    timing = journal.read("timing.jsonl")
    assert [r["tokens"] for r in timing] == [sum(map(task.length, five)) for five in examples]
    assert all(r["tokens_per_s"] == r["tokens"] / r["seconds"] for r in timing)
    assert all(r["peak_memory_bytes"] > 10_000_000 for r in timing)

    assert summary.steps == 5
    assert (summary.first_loss, summary.last_loss) == (steps[0]["loss"], steps[-1]["loss"])
    assert (summary.first_evaluation, summary.last_evaluation) == (
        records[0]["eval"],
        records[-1]["eval"],
    )
    assert summary.tokens == sum(r["tokens"] for r in timing)
    assert summary.seconds == pytest.approx(sum(r["seconds"] for r in timing))
    assert summary.peak_memory_bytes == max(r["peak_memory_bytes"] for r in timing)

    last = journal.shown[-1]
    assert last.keys() == {"step", "total", "loss", "lr", "tokens_per_s", "eta_s"}
    assert (last["step"], last["total"], last["eta_s"]) == (5, 5, 0.0)
    assert journal.shown[0]["eta_s"] == pytest.approx(4 * timing[0]["seconds"])


def test_evaluations_do_not_disturb_the_training(tmp_path: Path) -> None:
    often, rarely = FolderJournal(tmp_path / "often"), FolderJournal(tmp_path / "rarely")
    first, second = toy_model(), toy_model()
    train(first, ToyTask(), toy_settings(eval_every=1), often)
    train(second, ToyTask(), toy_settings(eval_every=0), rarely)
    assert len([r for r in often.read() if "eval" in r]) == 9
    assert [r["step"] for r in rarely.read() if "eval" in r] == [0, 8]
    assert often.losses() == rarely.losses()
    assert all(torch.equal(trained(first)[n], value) for n, value in trained(second).items())


@pytest.mark.parametrize("was_training", [False, True])
def test_modes_and_autograd(tmp_path: Path, was_training: bool) -> None:
    seen = []

    class WatchingTask(ToyTask):
        def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
            seen.append((model.training, torch.is_grad_enabled()))
            return super().loss(model, batch)

    model = toy_model().train(was_training)
    settings = toy_settings(total_steps=1, warmup_steps=0, token_budget=10_000)
    train(model, WatchingTask(), settings, FolderJournal(tmp_path))
    assert seen == [(False, False), (True, True), (False, False)]
    assert model.training == was_training


def test_the_seed_decides_the_dropout(tmp_path: Path) -> None:
    class OneOrderTask(ToyTask):
        """All records are equal, so that their order, and so the seed, does not matter."""

        def __init__(self) -> None:
            super().__init__()
            self.tokens = [self.tokens[0]] * len(self.tokens)

    journals = [FolderJournal(tmp_path / str(i)) for i in range(3)]
    for journal, seed in zip(journals, (1, 1, 2), strict=True):
        torch.manual_seed(len(journal.folder.name))
        train(toy_model(), OneOrderTask(), toy_settings(seed=seed), journal)
    assert journals[0].losses() == journals[1].losses()
    assert journals[0].losses()[0] != journals[2].losses()[0]


def test_a_frozen_model_is_evaluated_once(tmp_path: Path) -> None:
    journal = FolderJournal(tmp_path)
    settings = toy_settings(total_steps=0, warmup_steps=0)
    summary = train(toy_model().requires_grad_(False), ToyTask(), settings, journal)
    assert [record["step"] for record in journal.read()] == [0]
    assert summary.first_evaluation == summary.last_evaluation == journal.read()[0]["eval"]
    assert (summary.steps, summary.first_loss, summary.seconds) == (0, None, 0.0)
