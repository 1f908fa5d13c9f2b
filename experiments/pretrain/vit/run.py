"""The recipe of the small ViT: from scratch on CIFAR-10, on 2 CPU cores or any GPU.

The 1,000 training images of the task `cifar10` are left out, so that its backbone has never seen
what is trained and selected on there; 1,000 more are for looking at during development. The test
set is evaluated once, with the weights as they are released, in bfloat16.
"""

import os
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from experiments.backbones import small_vit
from experiments.data.files import DATA_VARIABLE
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.images import protocols
from experiments.images.jpeg_arrays import read_jpeg_arrays
from experiments.io.files import sha256_file
from experiments.pretrain.vit.task import Pretraining, Settings, decode, guesses
from experiments.training.optimisation import train_settings
from zia_core.errors import ZiaError

NAME, VERSION = "pretrain_vit", 1
# Of its own: the weights are released, so no profile of the paper's experiments trains them again.
PROFILE = "pretrain"
FILES = ("cifar10_train_jpeg.npz", "cifar10_test_jpeg.npz")
TASK = "cifar10"

RESULT_FIELDS: Mapping[str, Any] = {
    "parameters": int,
    "steps": int,
    "train_seconds": float,
    "train_loss_first": float | None,
    "train_loss_last": float | None,
    "development_accuracy": float,
    "test_accuracy": float,  # of the released weights
    "weights_bytes": int,
    "weights_sha256": str,
}


def pretraining(seed: int = 0, settings: Settings | None = None) -> RunSpec:
    """The run that trains the model."""
    return RunSpec(
        experiment=NAME,
        version=VERSION,
        task=TASK,
        method="full",
        backbone="small-vit",
        data="full",
        profile=PROFILE,
        seed=seed,
        settings=settings or Settings(),
    )


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Train, release and test the model, or do what is left of it.

    Writes `model.safetensors` and `card.json` into the run's folder besides what every run has.
    """
    import torch

    from zia_core.engine import train
    from zia_core.rng import derived_seed

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    files = [_file(name) for name in FILES]
    fingerprints = {path.name: sha256_file(path) for path in files}
    folder.write_environment({"data": fingerprints})
    training, test = map(read_jpeg_arrays, files)
    task = Pretraining(training, settings)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = small_vit.build(settings.shape).to(settings.device)
    summary = train(model, task, train_settings(settings, spec.seed, len(task), 100), folder)

    with folder.writing(small_vit.WEIGHTS) as path:
        small_vit.write_weights(model, path)
    weights = folder.path / small_vit.WEIGHTS
    released = small_vit.read_weights(settings.shape, weights).to(settings.device)
    images, labels = decode(test, range(len(test.labels)))
    guessed = guesses(released, images, settings)
    accuracy = (guessed == labels).float().mean().item()
    facts = {
        "what": "a small ViT trained from scratch on CIFAR-10; not an ImageNet-21k model",
        "input": protocols.get(settings.protocol, settings.shape.image_size).describe(),
        "recipe": {"seed": spec.seed, "version": spec.version, **asdict(settings)},
        "data_sha256": fingerprints,
        "test_accuracy": accuracy,
    }
    with folder.writing(small_vit.CARD) as path:
        path.write_text(small_vit.card(settings.shape, weights, facts), encoding="utf-8")
    folder.write_predictions(
        {"id": f"test/{i:05d}", "label": guess} for i, guess in enumerate(guessed.tolist())
    )
    folder.write_result(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "steps": summary.steps,
            "train_seconds": summary.seconds,
            "train_loss_first": summary.first_loss,
            "train_loss_last": summary.last_loss,
            "development_accuracy": summary.last_evaluation["development_accuracy"],
            "test_accuracy": accuracy,
            "weights_bytes": weights.stat().st_size,
            "weights_sha256": sha256_file(weights),
        }
    )


def _file(name: str) -> Path:
    data = os.environ.get(DATA_VARIABLE)
    path = Path(data or "", "cifar10", name)
    if not data or not path.exists():
        raise ZiaError(f"no CIFAR-10: put {name} into the folder cifar10/ of ${DATA_VARIABLE}")
    return path
