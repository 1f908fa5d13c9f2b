"""Every baseline under the training engine: the loss falls, interruptions leave no trace."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from tests.zia_core.backbones import VOCABULARY
from tests.zia_core.baselines.methods import METHODS, PAIRS, VISION, adapted, trained
from tests.zia_core.toy_training import FolderJournal, toy_settings
from zia_core.engine import Interrupted, train


class FewExamples:
    """Eight random images with classes, or token sequences with the positions of an answer."""

    def __init__(self, family: str) -> None:
        generator = torch.Generator().manual_seed(2)
        self.vision = family in VISION
        self.images = torch.randn(8, 3, 16, 16, generator=generator)
        self.ids = torch.randint(3, VOCABULARY, (8, 9), generator=generator)
        self.targets = torch.arange(8) % 7

    def __len__(self) -> int:
        return 8

    def length(self, index: int) -> int:
        return 1 if self.vision else 9

    def labels(self, index: int) -> int:
        return 1

    def record_id(self, index: int) -> str:
        return str(index)

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        rows = torch.tensor(list(indices))
        return {"x": (self.images if self.vision else self.ids)[rows], "y": self.targets[rows]}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        if not self.vision:
            logits = model(input_ids=batch["x"]).start_logits
        else:
            result = model(batch["x"].to(next(model.parameters()).dtype))
            logits = result if isinstance(result, Tensor) else result.logits
        return cross_entropy(logits.float(), batch["y"], reduction="sum"), len(batch["y"])

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        return {"loss": self.loss(model, self.batch(range(8)))[0].item()}


def ready(name: str, family: str, precision: str) -> nn.Module:
    return adapted(name, family, dtype=torch.bfloat16 if precision == "bf16" else torch.float32)


@pytest.mark.parametrize(
    ("name", "family", "precision"),
    [(*pair, "fp32") for pair in PAIRS]
    + [(name, METHODS[name].families[-1], "bf16") for name in METHODS if name != "bitfit"],
)
def test_trains_and_resumes(name: str, family: str, precision: str, tmp_path: Path) -> None:
    task: Any = FewExamples(family)
    settings = toy_settings(
        total_steps=6, batch_size=4, token_budget=None, micro_batch_size=4, precision=precision
    )
    whole, parts = FolderJournal(tmp_path / "whole"), tmp_path / "parts"
    model = ready(name, family, precision)
    summary = train(model, task, settings, whole)
    assert summary.last_evaluation["loss"] < summary.first_evaluation["loss"]
    frozen = {n: p for n, p in model.named_parameters() if n not in trained(model)}
    untouched = ready(name, family, precision)
    start = dict(untouched.named_parameters())
    assert all(torch.equal(p, start[n]) for n, p in frozen.items())

    with pytest.raises(Interrupted):
        train(untouched, task, settings, FolderJournal(parts, stop_after=3))
    train(ready(name, family, precision), task, settings, FolderJournal(parts))
    assert FolderJournal(parts).fingerprint() == whole.fingerprint()
