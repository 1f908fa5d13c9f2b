import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from experiments.backbones import small_vit, vision_models
from experiments.backbones.weights import WEIGHTS
from experiments.harness.folder import RunFolder
from experiments.images import encoders
from experiments.mini_world.captions import COLOURS, GROUNDS, SHAPES, draw_scene
from experiments.mini_world.dice import Dice
from experiments.pretrain.pocket_vit.run import RECIPE, run
from experiments.pretrain.pocket_vit.task import (
    OUTPUTS,
    Pictures,
    Pretraining,
    Settings,
    measure,
    pictures,
)
from tests.pretrain import tiny_runs

TINY = Settings(
    dim=16,
    depth=2,
    heads=2,
    mlp_ratio=2,
    images=40,
    development=10,
    epochs=2.0,
    warmup_epochs=0.5,
    batch_size=8,
    micro_batch_size=8,
    evaluations=1,
)


def attempt(runs: Path, stop_at: int | None = None) -> RunFolder:
    return tiny_runs.attempt(runs, RECIPE.spec(3, TINY), run, RECIPE.result_fields, stop_at)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    patch = pytest.MonkeyPatch()
    patch.setattr("experiments.pretrain.pocket_vit.run.TEST_PICTURES", 50)
    return attempt(tmp_path_factory.mktemp("whole")).path


def test_a_run_releases_an_encoder_that_is_found_by_its_name(
    finished: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card, result = (
        json.loads((finished / name).read_text()) for name in ("card.json", "result.json")
    )
    assert result["steps"] == 10
    assert card["sha256"] == result["weights_sha256"]
    (tmp_path / "pocket-vit").symlink_to(finished)
    monkeypatch.setenv("ZIA_WEIGHTS", str(tmp_path))
    model, hashes = vision_models.load(vision_models.get("pocket-vit"))
    assert list(hashes.values()) == [card["sha256"]]
    encoder = encoders.load("pocket-vit")
    assert (encoder.width, encoder.depth) == (16, 2)
    # The measured shares are those of the released file on the test pictures.
    expected = measure(model, pictures("test pictures", 3, 50), TINY)
    assert {name: result[name] for name in expected} == expected


def test_an_interrupted_run_ends_as_an_undisturbed_one(finished: Path, tmp_path: Path) -> None:
    attempt(tmp_path, stop_at=3)
    parts = attempt(tmp_path).path
    for name in ("metrics.jsonl", WEIGHTS):
        assert (finished / name).read_bytes() == (parts / name).read_bytes(), name


def test_what_is_asked_is_what_was_drawn() -> None:
    seen = pictures("some", 0, 40)
    for i in range(40):
        scene = draw_scene(Dice("some", 0, i))
        there = {
            (COLOURS[p // len(SHAPES)], SHAPES[p % len(SHAPES)])
            for p in seen.pairs[i].nonzero().flatten().tolist()
        }
        assert there == {(thing.colour, thing.shape) for thing in scene.things}
        assert GROUNDS[seen.ground[i]] == scene.ground
        assert seen.number[i] == len(scene.things) - 1
    other = pictures("others", 0, 40)
    assert not (seen.images == other.images).flatten(1).all(dim=1).any()


class Perfect(torch.nn.Module):
    """A stand-in for a model that knows the contents of the pictures, in order."""

    def __init__(self, seen: Pictures) -> None:
        super().__init__()
        one_hot = torch.nn.functional.one_hot
        self.logits = torch.cat(
            [seen.pairs - 0.5, one_hot(seen.ground, 3), one_hot(seen.number, 3)], dim=1
        )

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        return self.logits[: len(pixels)]


def test_shares_count_what_is_right() -> None:
    seen = pictures("some", 0, 60)
    model = Perfect(seen)
    assert set(measure(model, seen, TINY).values()) == {1.0}
    single = int((seen.number == 0).nonzero()[0])
    pair = int(seen.pairs[single].argmax())
    # The neighbour has the same colour and another shape.
    other = pair + 1 if pair % len(SHAPES) < len(SHAPES) - 1 else pair - 1
    model.logits[single, [pair, other]] = model.logits[single, [other, pair]]
    shares = measure(model, seen, TINY)
    singles = int((seen.number == 0).sum())
    assert shares["things"] == pytest.approx(59 / 60)
    assert shares["shape"] == pytest.approx(1 - 1 / singles)
    assert shares["colour"] == shares["ground"] == shares["number"] == 1.0


def test_the_loss_is_least_for_the_truth() -> None:
    task = Pretraining(replace(TINY, crop_padding=0), 0)
    batch = task.batch(range(8))
    assert batch["images"].shape == (8, 3, 32, 32)
    truth = Perfect(Pictures(batch["images"], batch["pairs"], batch["ground"], batch["number"]))
    loss, n = task.loss(truth, batch)
    truth.logits = 20 * truth.logits
    surer, _ = task.loss(truth, batch)
    truth.logits = truth.logits.roll(1, dims=0)
    wrong, _ = task.loss(truth, batch)
    assert n == 8
    assert surer < loss < wrong
    assert small_vit.build(TINY.shape)(batch["images"]).shape == (8, OUTPUTS)
