"""That the pipeline measures: what must be at chance is, what must be the same is the same."""

import random
from collections.abc import Iterator
from dataclasses import replace
from math import sqrt
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from experiments.backbones import vision_models
from experiments.harness import stored
from experiments.images import protocols
from experiments.images.tasks import Task
from experiments.vtab_vit import loaded_task, tasks
from experiments.vtab_vit.loaded_task import pixels
from tests.vtab_vit import world
from tests.vtab_vit.folders import png
from tests.vtab_vit.world import done, given

TRAIN, VAL, TEST, CLASSES = 80, 20, 200, 3
TASKS = ("learnable", "shuffled")


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    folder = tmp_path_factory.mktemp("measures")
    with pytest.MonkeyPatch.context() as patch:
        world.prepare(folder, patch)
        for name in TASKS:
            task = Task(name, name, "small", classes=CLASSES, test=TEST, train=TRAIN, val=VAL)
            patch.setitem(tasks.TASKS, name, task)
            write_images(folder / "data" / "vtab" / name, shuffled=name == "shuffled")
        yield folder


def write_images(folder: Path, *, shuffled: bool) -> None:
    """One colour is much the strongest: the class's or, shuffled, any."""
    numbers = random.Random(3)
    (folder / "images").mkdir(parents=True)
    labels = [number % CLASSES for number in range(TRAIN + VAL + TEST)]
    for number, label in enumerate(labels):
        strong = numbers.randrange(CLASSES) if shuffled else label
        red, green, blue = (40 + 150 * (i == strong) + numbers.randrange(60) for i in range(3))
        (folder / "images" / f"{number}.png").write_bytes(png([[(red, green, blue)] * 4] * 4))
    known = TRAIN + VAL
    for name, listed in {
        "train800.txt": range(TRAIN),
        "val200.txt": range(TRAIN, known),
        "train800val200.txt": range(known),
        "test.txt": range(known, known + TEST),
    }.items():
        (folder / name).write_text("".join(f"images/{n}.png {labels[n]}\n" for n in listed))


def trained(root: Path, method: str, task: str) -> stored.StoredRun:
    return done(root, replace(given(method, epochs=6.0), task=task))


@pytest.mark.parametrize("method", ["linear", "zero-init", "full"])
def test_shuffled_labels_give_chance(root: Path, method: str) -> None:
    assert trained(root, method, "learnable").result["accuracy"] > 0.8
    chance = 1 / CLASSES
    error = sqrt(chance * (1 - chance) / TEST)
    found = trained(root, method, "shuffled").result["accuracy"]
    assert abs(found - chance) < 3 * error, found


def test_at_step_zero_zero_init_is_the_linear_probe(root: Path) -> None:
    """No step is made: the same untrained head on the backbone's own features, guess by guess."""
    linear, zero, random_init = (
        done(root, replace(given(method, epochs=0.0, warmup_epochs=0.0), task="learnable"))
        for method in ("linear", "zero-init", "random-init")
    )
    assert zero.result["steps"] == 0
    assert zero.predictions() == linear.predictions() != random_init.predictions()


def test_a_linear_probe_is_its_head_on_the_features_of_the_frozen_model(root: Path) -> None:
    run = trained(root, "linear", "learnable")
    head = load_file(run.path / stored.ADAPTER)
    [weight] = [tensor for name, tensor in head.items() if name.endswith("head.weight")]
    [bias] = [tensor for name, tensor in head.items() if name.endswith("head.bias")]
    model, _ = vision_models.load(vision_models.get("small-vit"))
    examples = loaded_task.loaded(tasks.get("learnable")).data.test
    with torch.no_grad():
        features = model.forward_features(pixels(examples, protocols.get("fact", 32)))[:, 0]
    guessed = (features @ weight.T + bias).argmax(dim=-1).tolist()
    assert [guess["label"] for guess in run.predictions()] == guessed
    right = sum(g == example.label for g, example in zip(guessed, examples, strict=True))
    assert run.result["accuracy"] == right / TEST
