from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from tests.zia_core.ranks_at_work import DOOMED, Doomed, ImagesAndWords, run_ranks
from tests.zia_core.toy_training import FolderJournal, ToyTask
from zia_core.batching import examples_of_step
from zia_core.errors import ZiaError
from zia_core.ranks import Ranks, joined

DOOM = 2  # steps before the one with the doomed record
FIXED = {"token_budget": None, "micro_batch_size": 2}


def numbers(folder: Path) -> list[dict[str, Any]]:
    return FolderJournal(folder / "journal-0").read()


@pytest.mark.parametrize(
    "settings",
    [
        {"clip_norm": 0.5},
        FIXED,
        {**FIXED, "loss_reduction": "micro_batch_mean"},
        # The second rank never has a share.
        {**FIXED, "micro_batch_size": 5},
    ],
    ids=["by-length", "fixed", "released", "no-share"],
)
def test_two_ranks_have_the_losses_and_parameters_of_one(
    tmp_path: Path, settings: dict[str, Any]
) -> None:
    for size in (1, 2):
        codes = run_ranks(tmp_path / str(size), size, ImagesAndWords(), **settings)
        assert codes == [0] * size
    one, two = numbers(tmp_path / "1"), numbers(tmp_path / "2")
    assert [record.keys() for record in two] == [record.keys() for record in one]
    for ours, theirs in zip(two, one, strict=True):
        for name in ours.keys() - {"eval", "gates", "grad_norm"}:
            assert ours[name] == pytest.approx(theirs[name], rel=1e-6), (ours["step"], name)
        if "eval" in ours:
            assert ours["eval"] == pytest.approx(theirs["eval"], rel=1e-6)
            assert ours["gates"].keys() == theirs["gates"].keys()
            for layer, gates in ours["gates"].items():
                assert gates == pytest.approx(theirs["gates"][layer], rel=1e-4, abs=1e-6)
    alone = load_file(tmp_path / "1/0.safetensors")
    first, second = (load_file(tmp_path / f"2/{rank}.safetensors") for rank in range(2))
    for name, tensor in alone.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], tensor, rtol=1e-4, atol=1e-5)


def share_of(task: ToyTask, step: int, rank: int) -> list[int]:
    by_length = sorted(examples_of_step(len(task), 5, 1, step), key=lambda i: -task.length(i))
    return by_length[rank::2]


def test_the_shares_are_as_uneven_as_the_tests_need() -> None:
    """In some steps only one rank has images, or labels; the doomed record is the second's."""
    task, images, labels = ImagesAndWords(), set(), set()
    for step in range(8):
        shares = [share_of(task, step, rank) for rank in range(2)]
        images.add(tuple(any(i % 3 == 0 for i in share) for share in shares))
        labels.add(tuple(any(task.labels(i) for i in share) for share in shares))
    assert {(True, False), (False, True)} <= images
    assert (True, False) in labels or (False, True) in labels
    assert DOOMED in share_of(ToyTask(), DOOM, rank=1)
    assert not any(
        DOOMED in share_of(ToyTask(), step, rank) for step in range(DOOM) for rank in (0, 1)
    )


class StopsAfterThree(FolderJournal):
    """Stops when asked for the third time; the engine asks after each step."""

    asked = 0

    def stop_requested(self) -> str | None:
        self.asked += 1
        return "SIGUSR2 on a node" if self.asked == 4 else None


def stopping(folder: Path, rank: int) -> FolderJournal:
    place = folder / f"journal-{rank}"
    return StopsAfterThree(place) if rank == 1 else FolderJournal(place)


def test_one_ranks_signal_stops_all_and_the_next_attempt_ends_bitwise_the_same(
    tmp_path: Path,
) -> None:
    """With dropout: a resumed run draws the masks of the undisturbed one."""
    whole, cut = tmp_path / "whole", tmp_path / "cut"
    assert run_ranks(whole, 2, ToyTask()) == [0, 0]
    assert run_ranks(cut, 2, ToyTask(), stopping, checkpoint_every=0) == [1, 1]
    for rank in range(2):
        reason = "Interrupted: SIGUSR2 on a node (stopped after step 3)"
        assert (cut / f"{rank}.txt").read_text() == reason
    assert run_ranks(cut, 2, ToyTask(), checkpoint_every=0) == [0, 0]
    for rank in range(2):
        ours, theirs = (load_file(f / f"{rank}.safetensors") for f in (cut, whole))
        assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    metrics = "journal-0/metrics.jsonl"
    assert (cut / metrics).read_bytes() == (whole / metrics).read_bytes()
    assert list((cut / "journal-1").iterdir()) == []  # only the first rank writes


@pytest.mark.parametrize(
    ("how", "first", "second"),
    [
        ("data", "ZiaError: rank 1 failed (ValueError): record 14 is torn", "ValueError: record"),
        ("nan", "NonFiniteLoss: the loss is nan at step", "NonFiniteLoss: the loss is nan at step"),
        ("killed", "Interrupted: another process of this run is gone", ""),
    ],
)
def test_what_fails_on_one_rank_ends_all_of_them(
    tmp_path: Path, how: str, first: str, second: str
) -> None:
    codes = run_ranks(tmp_path, 2, Doomed(how))
    assert codes == [1, -9 if how == "killed" else 1]
    assert (tmp_path / "0.txt").read_text().startswith(first)
    if second:
        assert (tmp_path / "1.txt").read_text().startswith(second)
    steps = [record["step"] for record in numbers(tmp_path) if "loss" in record]
    assert steps == list(range(1, DOOM + 1))


class Full(FolderJournal):
    def save_checkpoint(self, *_: object) -> None:
        raise ZiaError("no space left on the device")


def full(folder: Path, rank: int) -> FolderJournal:
    return Full(folder / str(rank))


def test_a_failure_to_write_on_the_first_rank_ends_the_second(tmp_path: Path) -> None:
    codes = run_ranks(tmp_path, 2, ToyTask(), full)
    assert codes == [1, 1]
    second = (tmp_path / "1.txt").read_text()
    assert second == "ZiaError: rank 0 failed (ZiaError): no space left on the device"


def test_a_process_without_a_launcher_is_alone() -> None:
    with joined({}, device="cpu") as ranks:
        assert (ranks.rank, ranks.size, ranks.is_first) == (0, 1, True)
    assert Ranks.of_this_process(torch.device("cpu")).size == 1


def test_a_launchers_nonsense_is_refused() -> None:
    with pytest.raises(ZiaError, match=r"\$WORLD_SIZE must be a whole number, not 'two'"):
        joined({"WORLD_SIZE": "two"}, device="cpu").__enter__()
    with pytest.raises(ZiaError, match=r"\$RANK must be a whole number, not None"):
        joined({"WORLD_SIZE": "2"}, device="cpu").__enter__()
