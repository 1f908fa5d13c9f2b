"""The recipe of the pocket RoBERTa: from scratch on its library of the generated world."""

from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from experiments.backbones.release import (
    FOLDER,
    WEIGHTS,
    read_backbone,
    write_backbone,
    write_card,
)
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.io.files import sha256_file
from experiments.mini_world.documents import ENCODER, Library
from experiments.mini_world.tokenizer import train_tokenizer
from experiments.pretrain.roberta.recall import measure, skills
from experiments.pretrain.roberta.task import Pretraining, Settings, build
from experiments.training.optimisation import train_settings

NAME, VERSION = "pretrain_roberta", 1
PROFILE = "pretrain"
TASK = "library"
BACKBONE = "pocket-roberta"

RESULT_FIELDS: Mapping[str, Any] = {
    "parameters": int,
    "steps": int,
    "tokens": int,  # trained on, repeated ones included
    "train_seconds": float,
    "train_loss_first": float | None,
    "train_loss_last": float | None,
    "held_out": float,  # shares of right words of the released weights, see `recall`
    "retold": float,
    "answered": float,
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

    Writes the folder `backbone` into the run's folder besides what every run has.
    """
    import torch
    from transformers import AutoModelForMaskedLM

    from zia_core.engine import train
    from zia_core.rng import derived_seed

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    library = Library(spec.seed, ENCODER)
    tokenizer = train_tokenizer(
        map(library.document, range(settings.tokenizer_documents)), settings.positions
    )
    task = Pretraining(tokenizer, settings, spec.seed)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model: Any = build(settings, tokenizer)
    model.to(settings.device)
    parameters = sum(parameter.numel() for parameter in model.parameters())
    summary = train(model, task, train_settings(settings, spec.seed, len(task), 100), folder)

    released = folder.path / FOLDER
    write_backbone(model, tokenizer, released)
    final = read_backbone(AutoModelForMaskedLM, released)
    with torch.no_grad():
        shares = {name: measure(final, tokenizer, masked) for name, masked in skills().items()}
    write_card(
        released,
        {
            "what": "a pocket RoBERTa trained from scratch on a generated world; it knows nothing "
            "else",
            "recipe": {"seed": spec.seed, "version": spec.version, **asdict(settings)},
            "quality": shares,
        },
    )
    folder.write_result(
        {
            "parameters": parameters,
            "steps": summary.steps,
            "tokens": summary.tokens,
            "train_seconds": summary.seconds,
            "train_loss_first": summary.first_loss,
            "train_loss_last": summary.last_loss,
            **shares,
            "weights_bytes": (released / WEIGHTS).stat().st_size,
            "weights_sha256": sha256_file(released / WEIGHTS),
        }
    )
