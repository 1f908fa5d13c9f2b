"""The path of every pretraining run, with stand-ins for training and for the released weights."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from experiments.harness.folder import RunFolder
from experiments.io.files import sha256_file
from experiments.pretrain.recipe import BackboneRecipe, described, initialised
from experiments.training.optimisation import Optimisation
from zia_core.rng import derived_seed
from zia_core.training import TrainSummary


@dataclass(frozen=True)
class Settings(Optimisation):
    peak_lr: float | None = 1e-3
    micro_batch_size: int | None = 1
    batch_size: int = 1
    device: Any = "cpu"


class Rounding:
    """Weights that are released as whole numbers."""

    def __init__(self, folder: Path) -> None:
        self.weights, self.card = folder / "weights.txt", folder / "card.txt"

    def write(self, model: Any) -> None:
        self.weights.write_text(str(round(model.bias.item())))

    def read(self) -> float:
        return float(self.weights.read_text())

    def write_card(self, facts: Mapping[str, Any]) -> None:
        self.card.write_text(json.dumps(facts))


def test_the_released_weights_are_measured_and_described(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def train(model: Any, *_: Any) -> TrainSummary:
        with torch.no_grad():
            model.bias.fill_(2.7)
        evaluation = {"development": 0.5, "test": 0.1, "other": 0.2}
        return TrainSummary(steps=9, tokens=7, seconds=1.0, last_evaluation=evaluation)

    monkeypatch.setattr("zia_core.engine.train", train)
    recipe = BackboneRecipe("toy", 1, "numbers", "number", Settings, ("development", "test"))
    spec = recipe.spec(seed=3)
    folder = RunFolder.claim(tmp_path, spec, recipe.result_fields)
    assert folder is not None
    release = Rounding(tmp_path)
    grads: list[bool] = []

    def measure(model: float) -> dict[str, float]:
        grads.append(torch.is_grad_enabled())
        return {"test": model}

    with folder:
        recipe.train_and_release(
            spec,
            folder,
            model=nn.Linear(1, 1),
            task=[None],  # type: ignore[arg-type]
            release=release,
            measure=measure,
            card=lambda shares: {"recipe": described(spec), **shares},
        )
    result = json.loads((folder.path / "result.json").read_text())
    assert list(result) == list(recipe.result_fields)  # without tokens, which it does not count
    assert (result["development"], result["test"]) == (0.5, 3.0)  # not 2.7, and not the 0.1 before
    assert (result["parameters"], result["steps"]) == (2, 9)
    assert result["weights_sha256"] == sha256_file(release.weights)
    card = json.loads(release.card.read_text())
    assert (card["test"], card["recipe"]["seed"], card["recipe"]["batch_size"]) == (3.0, 3, 1)
    assert grads == [False]


def test_initial_weights_are_a_function_of_the_seed() -> None:
    recipe = BackboneRecipe("toy", 1, "numbers", "number", Settings, ())

    def weights(seed: int) -> torch.Tensor:
        torch.rand(seed + 1)  # whatever was drawn before
        return initialised(recipe.spec(seed=seed), lambda: nn.Linear(4, 4)).weight

    assert weights(5).equal(weights(5))
    assert not weights(5).equal(weights(6))
    torch.manual_seed(derived_seed(5, "parameters"))
    assert nn.Linear(4, 4).weight.equal(weights(5))


def test_on_a_gpu_it_is_another_run() -> None:
    recipe = BackboneRecipe("toy", 1, "numbers", "number", Settings, ())
    (cpu,), (cuda,) = (recipe.plan("pretrain", device) for device in ("cpu", "cuda"))
    assert (cpu.settings.device, cuda.settings.device) == ("cpu", "cuda")
    assert cpu.identity != cuda.identity
