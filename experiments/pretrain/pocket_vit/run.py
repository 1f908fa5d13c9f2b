"""The recipe of the pocket ViT: from scratch on pictures of the generated world."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from experiments.backbones import small_vit
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.images import protocols
from experiments.io.files import sha256_file
from experiments.pretrain.pocket_vit.task import Pretraining, Settings, measure, pictures
from experiments.training.optimisation import train_settings

NAME, VERSION = "pretrain_pocket_vit", 1
PROFILE = "pretrain"
TASK = "pictures"
BACKBONE = "pocket-vit"
TEST_PICTURES = 2000

RESULT_FIELDS: Mapping[str, Any] = {
    "parameters": int,
    "steps": int,
    "train_seconds": float,
    "train_loss_first": float | None,
    "train_loss_last": float | None,
    "things": float,  # shares of right answers of the released weights, see `task.measure`
    "colour": float,
    "shape": float,
    "ground": float,
    "number": float,
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
        backbone=BACKBONE,
        data="full",
        profile=PROFILE,
        seed=seed,
        settings=settings or Settings(),
    )


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Train, release and measure the model, or do what is left of it.

    Writes `model.safetensors` and `card.json` into the run's folder besides what every run has.
    """
    import torch

    from zia_core.engine import train
    from zia_core.rng import derived_seed

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    task = Pretraining(settings, spec.seed)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = small_vit.build(settings.shape).to(settings.device)
    summary = train(model, task, train_settings(settings, spec.seed, len(task), 100), folder)

    with folder.writing(small_vit.WEIGHTS) as path:
        small_vit.write_weights(model, path)
    weights = folder.path / small_vit.WEIGHTS
    released = small_vit.read_weights(settings.shape, weights).to(settings.device)
    shares = measure(released, pictures("test pictures", spec.seed, TEST_PICTURES), settings)
    facts = {
        "what": "a pocket ViT trained from scratch on pictures of a generated world; it has seen "
        "nothing else",
        "input": protocols.get(settings.protocol, settings.shape.image_size).describe(),
        "recipe": {"seed": spec.seed, "version": spec.version, **asdict(settings)},
        "quality": shares,
    }
    with folder.writing(small_vit.CARD) as path:
        path.write_text(small_vit.card(settings.shape, weights, facts), encoding="utf-8")
    folder.write_result(
        {
            "parameters": sum(parameter.numel() for parameter in model.parameters()),
            "steps": summary.steps,
            "train_seconds": summary.seconds,
            "train_loss_first": summary.first_loss,
            "train_loss_last": summary.last_loss,
            **shares,
            "weights_bytes": weights.stat().st_size,
            "weights_sha256": sha256_file(weights),
        }
    )
