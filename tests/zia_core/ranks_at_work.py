"""Train in several data-parallel processes.

Every rank writes its trained parameters to `<folder>/<rank>.safetensors`, or the reason for failure
to `<folder>/<rank>.txt`; its journal is the folder `<folder>/journal-<rank>`.
"""

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from tests.zia_core.backbones import VOCABULARY
from tests.zia_core.processes import exit_codes, free_port
from tests.zia_core.toy_training import FolderJournal, ToyTask, toy_model, toy_settings, trained
from tests.zia_core.visual_reference import features, seeing
from zia_core import images
from zia_core.engine import train
from zia_core.losses import causal_lm_loss
from zia_core.ranks import joined

DOOMED = 14
Journals = Callable[[Path, int], FolderJournal]


class ImagesAndWords(ToyTask):
    """ToyTask with an image in one of three records, and labels in two of five."""

    def __init__(self) -> None:
        super().__init__()
        self.tokens = [[token % VOCABULARY for token in record] for record in self.tokens]

    def labels(self, index: int) -> int:
        return super().labels(index) if index % 5 < 2 else 0

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        image = torch.stack([features("global", 1, seed=i)[0] for i in indices])
        has_image = torch.tensor([i % 3 == 0 for i in indices])
        return super().batch(indices) | {"image": image, "has_image": has_image}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        words = {k: v for k, v in batch.items() if k not in ("image", "has_image")}
        some = batch["has_image"].any()
        with images(model, batch["image"], batch["has_image"]) if some else nullcontext():
            return causal_lm_loss(model, **words)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        total, labels = self.loss(model, self.batch([0, 2, 3]))
        return {"val_loss": total.item() / labels}


class Doomed(ToyTask):
    """Fails on the rank with the record DOOMED, in the way of `how`."""

    def __init__(self, how: str) -> None:
        super().__init__()
        self.how = how

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        self.doomed = DOOMED in indices
        return super().batch(indices)

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        loss, labels = super().loss(model, batch)
        if not self.doomed:
            return loss, labels
        if self.how == "killed":
            os.kill(os.getpid(), signal.SIGKILL)
        if self.how == "data":
            raise ValueError(f"record {DOOMED} is torn")
        return loss * float("nan"), labels


def model_of(task: ToyTask) -> nn.Module:
    return seeing("llama-gqa", "global") if isinstance(task, ImagesAndWords) else toy_model()


def run_ranks(
    folder: Path, size: int, task: ToyTask, journal: Journals | None = None, **settings: Any
) -> list[int]:
    """Train with `size` processes; return their exit codes (1 is an exception, < 0 a signal)."""
    folder.mkdir(parents=True, exist_ok=True)
    port = free_port()
    return exit_codes(
        _work, [(folder, rank, size, port, task, journal, settings) for rank in range(size)]
    )


def _work(
    folder: Path,
    rank: int,
    size: int,
    port: int,
    task: ToyTask,
    journal: Journals | None,
    settings: dict[str, Any],
) -> None:
    torch.set_num_threads(1)
    place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    model = model_of(task)
    try:
        with joined(place | {"RANK": str(rank), "WORLD_SIZE": str(size)}, device="cpu"):
            made = (journal or own_journal)(folder, rank)
            train(model, task, toy_settings(**settings), made)
    except Exception as error:
        (folder / f"{rank}.txt").write_text(f"{type(error).__name__}: {error}")
        raise SystemExit(1) from error
    save_file(trained(model), folder / f"{rank}.safetensors")


def own_journal(folder: Path, rank: int) -> FolderJournal:
    """Each rank has its own journal, which shows who writes."""
    return FolderJournal(folder / f"journal-{rank}")
