"""Prefetching, with a stand-in for a GPU's stream."""

from collections.abc import Sequence
from contextlib import nullcontext
from typing import Any

import pytest
import torch
from torch import Tensor

from tests.zia_core.toy_training import ToyTask
from zia_core import prefetch as module
from zia_core.padding import Padding
from zia_core.prefetch import Prefetcher


class Watched(ToyTask):
    def __init__(self, random: bool = False, torn: bool = False) -> None:
        super().__init__()
        self.random, self.torn = random, torn
        self.made: list[Sequence[int]] = []

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        self.made.append(indices)
        if self.random:
            torch.rand(3)
        if self.torn:
            raise ValueError("a torn record")
        return super().batch(indices)


class Stream:
    def __init__(self, *_: object) -> None:
        self.waited = 0

    def wait_stream(self, _: object) -> None:
        self.waited += 1


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Stream:
    stream = Stream()
    monkeypatch.setattr(torch.cuda, "Stream", Stream)
    monkeypatch.setattr(torch.cuda, "stream", lambda _: nullcontext())
    monkeypatch.setattr(torch.cuda, "current_stream", lambda _: stream)
    monkeypatch.setattr(Tensor, "record_stream", lambda *_: None)
    monkeypatch.setattr(module, "on_device", lambda tensor, _: tensor)
    return stream


CUDA = torch.device("cuda")


def test_a_batch_is_made_once_and_waited_for_by_the_stream(gpu: Stream) -> None:
    task = Watched()
    prefetcher = Prefetcher(task, CUDA)
    prefetcher.prefetch([1, 2])
    made = prefetcher.take([1, 2])
    assert (task.made, gpu.waited) == ([[1, 2]], 1)
    assert torch.equal(made.batch["input_ids"], ToyTask().batch([1, 2])["input_ids"])
    assert list(made.paddings.values()) == [Padding.LAST]
    assert list(prefetcher.take([3]).paddings.values()) == [Padding.NONE]
    prefetcher.prefetch([4])  # but others are taken
    assert len(prefetcher.take([5, 6]).batch["input_ids"]) == 2


def test_on_a_cpu_nothing_is_made_ahead() -> None:
    task: Any = Watched()
    prefetcher = Prefetcher(task, torch.device("cpu"))
    prefetcher.prefetch([1, 2])
    assert task.made == []


def test_what_a_checkpoint_would_keep_does_not_move(gpu: Stream) -> None:
    """A random batch of the next step is drawn after the checkpoint, as without prefetching."""
    task = Watched(random=True)
    prefetcher, before = Prefetcher(task, CUDA), torch.get_rng_state()
    prefetcher.prefetch([1, 2], of_next_step=True)
    assert torch.equal(torch.get_rng_state(), before)
    prefetcher.take([1, 2])
    prefetcher.prefetch([3], of_next_step=True)  # not even tried again
    assert task.made == [[1, 2], [1, 2]]
    prefetcher.prefetch([3])  # within a step, the order of draws is the same
    assert task.made[-1] == [3]


def test_a_torn_record_is_told_of_in_its_turn(gpu: Stream) -> None:
    prefetcher = Prefetcher(Watched(torn=True), CUDA)
    prefetcher.prefetch([1])
    with pytest.raises(ValueError, match="a torn record"):
        prefetcher.take([1])
