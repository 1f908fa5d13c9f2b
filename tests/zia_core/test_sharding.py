"""Full fine-tuning in shards: the losses of one process, also killed and resumed."""

import os
import signal
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, distributed, nn

from tests.zia_core.backbones import adapted
from tests.zia_core.processes import exit_codes, free_port
from tests.zia_core.toy_training import (
    FolderJournal,
    ToyTask,
    toy_model,
    toy_settings,
    without_dropout,
)
from zia_core.engine import train
from zia_core.errors import ZiaError
from zia_core.gradients import plan_step
from zia_core.ranks import Ranks, joined
from zia_core.sharding import shard, whole

FIXED = {"token_budget": None, "micro_batch_size": 5}  # the second rank never has a share


class KilledAt(ToyTask):
    """The second rank is killed in its n-th pass."""

    def __init__(self, n: int) -> None:
        super().__init__()
        self.n, self.passes = n, 0

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        self.passes += 1
        if self.passes == self.n and distributed.is_initialized() and distributed.get_rank() == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        return super().loss(model, batch)


def run(folder: Path, size: int, task: ToyTask, **settings: Any) -> list[int]:
    """Train all of the toy model in `size` processes; returns their exit codes."""
    folder.mkdir(parents=True, exist_ok=True)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    return exit_codes(
        _work, [(folder, rank, size, place, task, settings) for rank in range(size)], 240
    )


def _work(
    folder: Path, rank: int, size: int, place: dict[str, str], task: ToyTask, settings: Any
) -> None:
    torch.set_num_threads(1)
    chosen = toy_settings(**settings)
    try:
        with joined(place | {"RANK": str(rank), "WORLD_SIZE": str(size)}, device="cpu"):
            model: nn.Module = without_dropout(toy_model()).requires_grad_(True)
            if size > 1:
                shard(model, "fp32" if chosen.precision == "fp32" else "bf16-autocast")
            journal = FolderJournal(folder / f"journal-{rank}")
            train(model, task, chosen, journal, folder / "shards")
            held = {n: whole(p.detach()).contiguous() for n, p in model.named_parameters()}
            parameters: list[Any] = list(model.parameters())
            if size > 1:
                parts = sum(p.to_local().numel() for p in parameters)
                assert parts < 0.6 * sum(p.numel() for p in parameters)
    except Exception as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
    save_file(held, folder / f"{rank}.safetensors")


def said(folder: Path) -> list[str]:
    """Why ranks failed."""
    return [path.read_text() for path in sorted(folder.glob("*.txt"))]


def records(folder: Path) -> list[dict[str, Any]]:
    return FolderJournal(folder / "journal-0").read()


def assert_same(mine: Path, others: Path, rel: float = 1e-6) -> None:
    for one, other in zip(records(mine), records(others), strict=True):
        assert one.keys() == other.keys()
        if "eval" in one:
            ours, theirs = one["eval"]["val_loss"], other["eval"]["val_loss"]
            assert ours == pytest.approx(theirs, rel=rel)
        else:
            assert one["loss"] == pytest.approx(other["loss"], rel=rel), one["step"]
            assert one["grad_norm"] == pytest.approx(other["grad_norm"], rel=100 * rel)


@pytest.fixture(scope="module")
def alone(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of one process."""
    folder = tmp_path_factory.mktemp("alone")
    assert run(folder, 1, ToyTask(), clip_norm=0.5, checkpoint_every=2) == [0]
    return folder


def test_two_ranks_have_the_losses_of_one_killed_and_resumed_too(
    alone: Path, tmp_path: Path
) -> None:
    settings: dict[str, Any] = {"clip_norm": 0.5, "checkpoint_every": 2}
    assert run(tmp_path / "whole", 2, ToyTask(), **settings) == [0, 0], said(tmp_path / "whole")
    assert_same(tmp_path / "whole", alone)
    one, first, second = (
        load_file(f)
        for f in (alone / "0.safetensors", *((tmp_path / "whole").glob("[01].safetensors")))
    )
    for name, tensor in one.items():
        assert torch.equal(first[name], second[name])
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5)

    cut = tmp_path / "cut"
    codes = run(cut, 2, KilledAt(14), **settings)
    assert codes == [1, -9]
    assert (cut / "0.txt").read_text().startswith("Interrupted: another process of this run")
    steps = [record["step"] for record in records(cut) if "loss" in record]
    assert 2 <= len(steps) < 8
    assert sorted(p.name for p in (cut / "shards").iterdir())[0] == "step-00000002"
    assert run(cut, 2, ToyTask(), **settings) == [0, 0], said(cut)
    whole_run = (tmp_path / "whole" / "journal-0" / "metrics.jsonl").read_bytes()
    assert (cut / "journal-0" / "metrics.jsonl").read_bytes() == whole_run
    assert sorted(p.name for p in (cut / "shards").iterdir()) == ["step-00000006", "step-00000008"]
    # One process does not continue what two ranks stored in shards.
    assert run(cut, 1, ToyTask(), **settings, total_steps=10) == [1]
    assert "is in shards; continue with sharding" in (cut / "0.txt").read_text()


@pytest.mark.parametrize(
    ("settings", "rel"), [(FIXED, 1e-6), ({"precision": "bf16-autocast"}, 2e-2)]
)
def test_a_rank_without_a_share_and_bfloat16(
    tmp_path: Path, settings: dict[str, Any], rel: float
) -> None:
    for size in (1, 2):
        folder = tmp_path / str(size)
        assert run(folder, size, ToyTask(), **settings) == [0] * size, said(folder)
    assert_same(tmp_path / "2", tmp_path / "1", rel)


def test_every_rank_makes_as_many_passes() -> None:
    task, cpu = ToyTask(), torch.device("cpu")
    for settings in (toy_settings(), toy_settings(**FIXED)):
        for step in range(8):
            plans = [
                plan_step(task, settings, step, Ranks(r, 3, cpu), in_step=True) for r in (0, 1, 2)
            ]
            passes: Sequence[int] = [len(p.micro_batches) + p.idle for p in plans]
            assert len(set(passes)) == 1
            assert min(p.idle for p in plans) == 0


def test_what_cannot_be_sharded_is_refused() -> None:
    with pytest.raises(ZiaError, match="start them by torchrun"):
        shard(toy_model())


def test_adapters_and_half_precision_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(distributed, "is_initialized", lambda: True)
    with pytest.raises(ZiaError, match="train it data-parallel"):
        shard(adapted("llama-gqa"))
    with pytest.raises(ZiaError, match=r"some are torch\.bfloat16"):
        shard(toy_model().bfloat16())
    tied = toy_model()
    tied.lm_head.weight = tied.model.embed_tokens.weight
    with pytest.raises(ZiaError, match="its word embedding, which cannot be sharded twice"):
        shard(tied)
