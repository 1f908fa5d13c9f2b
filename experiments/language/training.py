"""Train a language model to respond to prompts, with or without images, and write the results."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.language.examples import Examples
from experiments.language.image_features import RunImages, run_images
from experiments.language.losses import LanguageTask, example_losses, mean_loss
from experiments.language.methods import PROJECTION, prepare, projection_parameters
from experiments.language.settings import ImageTextSettings, LanguageSettings
from experiments.training.method_training import TrainedModel, train_method
from experiments.training.optimisation import (
    autocast,
    bucket,
    in_four_bits,
    set_threads,
    weights_dtype,
)
from experiments.training.prompt_share import first_alone, write_prompt_share
from experiments.training.result import FIELDS, training_result
from experiments.training.selection import Choice, chosen_rate

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

IMAGE_TEXT_FIELDS: Mapping[str, Any] = {
    **FIELDS,
    "evaluated_on": str,  # "test" or "val"
    "val_loss_start": float,  # nats per response token
    "val_loss": float,
    "projection_parameters": int,  # of the tuned ones
}


@dataclass(frozen=True)
class RunExamples:
    """The examples of a run, and the counts about them in its result."""

    training: Examples
    validation: Examples
    asked: Examples  # answered after the training
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class LanguageRun(TrainedModel):
    """A trained language model with what its evaluation needs."""

    spec: RunSpec
    tokenizer: "PreTrainedTokenizerBase"
    examples: RunExamples
    losses: Sequence[tuple[float, int]]  # of each validation example, with its number of labels
    choice: Choice

    def precision(self) -> AbstractContextManager[Any]:
        """What the model computes in, in training and whenever it is evaluated."""
        return autocast(self.spec.settings)

    def validation_losses(self, name: str) -> list[dict[str, Any]]:
        """The predictions of the set `name`: the loss of each validation example."""
        validation = self.examples.validation
        return [
            {"set": name, "id": validation.record_id(i), "loss": loss, "labels": labels}
            for i, (loss, labels) in enumerate(self.losses)
        ]

    def write(self, predictions: Sequence[dict[str, Any]], scores: Mapping[str, Any]) -> None:
        """Write predictions and result of an experiment with images."""
        scored_on = self.spec.settings.evaluated_on
        self.folder.write_predictions(
            [
                *self.validation_losses("val-loss"),
                *({"set": scored_on, **prediction} for prediction in predictions),
            ]
        )
        self.folder.write_result(
            {
                **training_result(self),
                **scores,
                **self.examples.counts,
                **self.choice.as_result(),
                "evaluated_on": scored_on,
                "val_loss_start": self.summary.first_evaluation["val_loss"],
                "val_loss": mean_loss(self.losses),
                "projection_parameters": projection_parameters(self.model),
            }
        )


def train_language_model(
    spec: RunSpec,
    folder: RunFolder,
    environment: Mapping[str, Any],
    encode: "Callable[[PreTrainedTokenizerBase, RunImages], RunExamples]",
    result_fields: Mapping[str, Any],
    requires: Callable[[RunSpec], list[RunSpec]],
    images: Sequence[Path] = (),
    validated_on: str = "validation examples",
    sharded: bool = False,
) -> LanguageRun:
    """Train the method of a run, or resume that, and save the adapter.

    Args:
        spec, folder: of the run.
        environment: "data", the fingerprints of the data, and anything else to record.
        encode: returns the examples; called before the training so that errors in them come first.
        result_fields, requires: of the experiment, for the select runs that the rate is chosen by.
        images: all image files that the run may show.
        validated_on: a name for the validation examples, for readers of prompt_share.json.
        sharded: as in `train_method`.
    """
    settings: LanguageSettings = spec.settings
    set_threads(settings)
    features = RunImages()
    if isinstance(settings, ImageTextSettings):
        features = run_images(spec.method, settings, images)
    backbone, tokenizer, weights = language_models.load(
        language_models.get(spec.backbone),
        weights_dtype(settings),
        settings.device,
        four_bit=in_four_bits(settings),
    )
    data = dict(environment["data"])
    if features.features is not None:
        data["images"] = features.features.fingerprint
    folder.write_environment(
        {**environment, "data": data, "weights": {**weights, **(features.weights or {})}}
    )
    choice = chosen_rate(spec, folder, result_fields, requires)
    examples = encode(tokenizer, features)
    examples.training.multiple = bucket(settings)
    task = LanguageTask(
        examples.training, examples.validation, settings.eval_tokens, settings.loss_chunk
    )
    trained = train_method(
        spec,
        folder,
        backbone,
        lambda model: prepare(model, spec.method, settings, features.width),
        lambda model: task,
        replace(settings, peak_lr=choice.peak_lr),
        rates=_rates(settings, choice.peak_lr),
        keep_adapter=settings.phase == "final",
        sharded=sharded,
    )
    if settings.phase == "final":
        alone = first_alone(examples.validation)
        write_prompt_share(folder, trained.model, validated_on, alone, task.loss, settings)
    # None: an earlier attempt did all steps, the last evaluation included.
    losses = task.losses
    if not losses:
        with autocast(settings):
            losses = example_losses(
                trained.model, examples.validation, settings.eval_tokens, settings.loss_chunk
            )
    return LanguageRun(**vars(trained), spec=spec, tokenizer=tokenizer, examples=examples,
                       losses=losses, choice=choice)  # fmt: skip


def _rates(settings: LanguageSettings, peak_lr: float) -> dict[str, float]:
    """The factors of the peak rate by module."""
    if not isinstance(settings, ImageTextSettings) or settings.projection_lr is None or not peak_lr:
        return {}
    return {PROJECTION: settings.projection_lr / peak_lr}
