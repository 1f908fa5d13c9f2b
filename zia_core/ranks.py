"""Data-parallel training: communication between the processes ("ranks") of one run.

Every rank holds the whole model and computes its share of each batch. An adapter has about a
million parameters, so one buffer and one all-reduce per step carry all gradients, without overlap
or wrapping. All ranks always make the same sequence of exchanges; a failing rank reports in the one
for which the others wait. Everything but gradients travels between CPUs, where a killed rank is
noticed at once.
"""

import json
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import Any, Self, TypeVar

import torch
from torch import Tensor, distributed
from torch.distributed import TCPStore  # type: ignore[attr-defined]
from torch.nn import Parameter

from zia_core.device_copies import on_device
from zia_core.errors import ZiaError
from zia_core.training import NonFiniteLoss

__all__ = ["joined"]

Item = TypeVar("Item")

MEETING = timedelta(minutes=10)  # how far apart the ranks may start
PATIENCE = timedelta(hours=6)  # how long the others wait while the first rank evaluates


class LostRankError(Exception):
    """Another rank of this run is gone, and its part of this step with it."""


class Ranks:
    """The ranks of this run, seen from one of them; usually there is only one."""

    def __init__(self, rank: int, size: int, device: torch.device) -> None:
        self.rank, self.size, self.device = rank, size, device

    @classmethod
    def of_this_process(cls, device: torch.device) -> Self:
        """The ranks of torch's default process group, or this process alone if there is none."""
        if distributed.is_available() and distributed.is_initialized():
            return cls(distributed.get_rank(), distributed.get_world_size(), device)
        return cls(0, 1, device)

    @property
    def is_first(self) -> bool:
        """Whether this is the rank that evaluates and writes."""
        return self.rank == 0

    def share(self, items: Sequence[Item]) -> Sequence[Item]:
        """This rank's items: every `size`-th, possibly none."""
        return items[self.rank :: self.size]

    def sums(self, *values: float) -> list[float]:
        """Each value summed over all ranks, in float64."""
        if self.size == 1:
            return list(values)
        total = torch.tensor(values, dtype=torch.float64)
        with _lost_ranks():
            distributed.all_reduce(total)
        return total.tolist()

    def add_gradients(self, parameters: Mapping[str, Parameter]) -> Tensor | None:
        """Sum gradients over all ranks, in one all-reduce.

        Every parameter then has a gradient, zero if no rank had one.

        Returns:
            How many ranks had a gradient for each parameter, [parameters] on the device, for
            `drop_absent`; None if this process is alone.
        """
        if self.size == 1:
            return None
        own = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters.values()]
        present = torch.tensor([float(p.grad is not None) for p in parameters.values()])
        flat = torch.cat([*(g.flatten() for g in own), on_device(present, self.device)])
        with _lost_ranks():
            distributed.all_reduce(flat)
        sizes = [p.numel() for p in parameters.values()]
        *gradients, counts = flat.split([*sizes, len(sizes)])
        for parameter, gradient in zip(parameters.values(), gradients, strict=True):
            parameter.grad = gradient.view_as(parameter)
        return counts

    def first_text(self, text: str) -> tuple[int, str]:
        """The first rank with a non-empty text, and that text; (0, "") if all are empty."""
        if self.size == 1:
            return 0, text
        own = text.encode()
        lengths = torch.zeros(self.size, dtype=torch.int64)
        lengths[self.rank] = len(own)
        with _lost_ranks():
            distributed.all_reduce(lengths)
        for rank, length in enumerate(lengths.tolist()):
            if length:
                data = torch.zeros(length, dtype=torch.uint8)
                if rank == self.rank:
                    data.copy_(torch.frombuffer(bytearray(own), dtype=torch.uint8))
                with _lost_ranks():
                    distributed.broadcast(data, rank)
                return rank, bytes(data.tolist()).decode()
        return 0, ""

    def first_tensors(self, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The first rank's tensors, on the CPU; other ranks' arguments are ignored."""
        if self.size == 1:
            return dict(tensors)
        kinds = [(k, str(t.dtype).removeprefix("torch."), t.shape) for k, t in tensors.items()]
        _, header = self.first_text(json.dumps(kinds) if self.is_first else "")
        received = {}
        for name, dtype, shape in json.loads(header):
            if self.is_first:
                received[name] = tensors[name].detach().cpu().contiguous()
            else:
                received[name] = torch.empty(shape, dtype=getattr(torch, dtype))
            with _lost_ranks():
                distributed.broadcast(received[name], 0)
        return received

    @contextmanager
    def failing_together(self) -> Iterator[None]:
        """Raise on all ranks if one fails within the block, which must not communicate.

        Raises:
            NonFiniteLoss, ZiaError: another rank failed; this rank's own exception is unchanged.
        """
        if self.size == 1:
            yield
            return
        try:
            yield
        except LostRankError:
            raise
        except Exception as error:
            self.first_text(json.dumps([type(error).__name__, str(error)]))
            raise
        rank, failure = self.first_text("")
        if failure:
            kind, sentence = json.loads(failure)
            if kind == NonFiniteLoss.__name__:
                raise NonFiniteLoss(sentence)
            raise ZiaError(f"rank {rank} failed ({kind}): {sentence}")


def drop_absent(parameters: Mapping[str, Parameter], counts: Sequence[float]) -> None:
    """Remove gradients that `Ranks.add_gradients` filled with zeros, as no rank had one.

    The optimiser then skips the parameter, as it would with one rank. A gradient of only some ranks
    stays (of the visual projection, say, if only some had images).
    """
    for parameter, count in zip(parameters.values(), counts, strict=True):
        if not count:
            parameter.grad = None


@contextmanager
def joined(environment: Mapping[str, str] = os.environ, *, device: str) -> Iterator[Ranks]:
    """Join the ranks described by torchrun's variables (RANK, WORLD_SIZE, MASTER_ADDR, ...).

    Without them, or with a world size of one, this process is alone.

    Args:
        environment: the variables.
        device: "cpu" or "cuda"; LOCAL_RANK selects the GPU, unless the launcher made only one
            visible to each rank.

    Yields:
        The ranks, seen from this process: `rank`, `size`, `is_first` and `device`.

    Raises:
        ZiaError: the variables are inconsistent, or the other ranks cannot be reached.
    """
    size = _number(environment, "WORLD_SIZE", 1)
    if size <= 1:
        yield Ranks(0, 1, torch.device(device))
        return
    rank = _number(environment, "RANK", None)
    if device == "cuda":
        local = _number(environment, "LOCAL_RANK", 0)
        torch.cuda.set_device(local % torch.cuda.device_count())
    address = environment.get("MASTER_ADDR", "localhost")
    port = _number(environment, "MASTER_PORT", None)
    try:
        store = TCPStore(address, port, size, is_master=rank == 0, timeout=MEETING)
        distributed.init_process_group(
            "cpu:gloo,cuda:nccl" if device == "cuda" else "gloo",
            store=store,
            timeout=PATIENCE,
            world_size=size,
            rank=rank,
        )
    except (RuntimeError, ValueError) as error:
        raise ZiaError(
            f"rank {rank} of {size} cannot join the others at {address}:{port}: {error}"
        ) from error
    try:
        yield Ranks.of_this_process(torch.device(device))
    finally:
        distributed.destroy_process_group()


def _number(environment: Mapping[str, str], name: str, default: int | None) -> int:
    text = environment.get(name, default)
    try:
        return int(text)  # type: ignore[arg-type]  # None is refused like any other non-number
    except (TypeError, ValueError):
        raise ZiaError(f"${name} must be a whole number, not {text!r}") from None


@contextmanager
def _lost_ranks() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:  # gloo: connection closed; NCCL: DistBackendError
        raise LostRankError(f"another process of this run is gone ({error})") from error


@contextmanager
def communicating() -> Iterator[None]:
    """For code that communicates in between, as a sharded model's passes do.

    If this rank fails, it must end, and the others notice that it is gone.

    Raises:
        LostRankError: another rank is gone.
    """
    try:
        yield
    except RuntimeError as error:
        if isinstance(error, distributed.DistError) or "gloo" in str(error):
            with _lost_ranks():
                raise
        raise


def checkpoint_of_first(
    ranks: Ranks, loaded: tuple[int, Mapping[str, Tensor], Mapping[str, Any]] | None
) -> tuple[int, Mapping[str, Tensor], Mapping[str, Any]] | None:
    """Give every rank the checkpoint that the first one loaded, or None if it has none."""
    if ranks.size == 1:
        return loaded
    place = [loaded[0], loaded[2]] if loaded else None
    _, header = ranks.first_text(json.dumps(place) if ranks.is_first else "")
    if (place := json.loads(header)) is None:
        return None
    step, state = place
    return step, ranks.first_tensors(loaded[1] if loaded else {}), state
