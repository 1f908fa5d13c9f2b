"""Pretrain the small ViT on CIFAR-10, on 2 CPU cores or a GPU.

The 1,000 training images of the task `cifar10` are left out, so that its backbone has never seen
what that task trains and selects on; another 1,000 are for development. The test set is evaluated
once, with the released bfloat16 weights.
"""

import os
from pathlib import Path
from typing import Any

from experiments.backbones import small_vit
from experiments.data.files import DATA_VARIABLE
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.images import protocols
from experiments.images.jpeg_arrays import read_jpeg_arrays
from experiments.io.files import sha256_file
from experiments.pretrain.recipe import (
    BackboneRecipe,
    VisionRelease,
    described,
    initialised,
    use_threads,
)
from experiments.pretrain.vit.task import Pretraining, Settings, decode, guesses
from zia_core.errors import ZiaError

FILES = ("cifar10_train_jpeg.npz", "cifar10_test_jpeg.npz")
RECIPE = BackboneRecipe(
    "pretrain_vit",
    1,
    "cifar10",
    "small-vit",
    Settings,
    measured=("development_accuracy", "test_accuracy"),  # the latter of the released weights
)


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Train, release and test the model, or finish an interrupted run."""
    settings: Settings = spec.settings
    use_threads(settings)
    files = [_file(name) for name in FILES]
    fingerprints = {path.name: sha256_file(path) for path in files}
    folder.write_environment({"data": fingerprints})
    training, test = map(read_jpeg_arrays, files)

    def measure(model: Any) -> dict[str, float]:
        images, labels = decode(test, range(len(test.labels)))
        guessed = guesses(model, images, settings)
        folder.write_predictions(
            {"id": f"test/{i:05d}", "label": guess} for i, guess in enumerate(guessed.tolist())
        )
        return {"test_accuracy": (guessed == labels).float().mean().item()}

    RECIPE.train_and_release(
        spec,
        folder,
        task=Pretraining(training, settings),
        model=initialised(spec, lambda: small_vit.build(settings.shape)),
        release=VisionRelease(folder, settings.shape, settings.device),
        measure=measure,
        card=lambda shares: {
            "what": "a small ViT trained from scratch on CIFAR-10; not an ImageNet-21k model",
            "input": protocols.get(settings.protocol, settings.shape.image_size).describe(),
            "recipe": described(spec),
            "data_sha256": fingerprints,
            **shares,
        },
    )


def _file(name: str) -> Path:
    data = os.environ.get(DATA_VARIABLE)
    path = Path(data or "", "cifar10", name)
    if not data or not path.exists():
        raise ZiaError(f"no CIFAR-10: put {name} into the folder cifar10/ of ${DATA_VARIABLE}")
    return path
