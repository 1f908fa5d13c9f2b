"""What every experiment with images does between its data and its scores."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models
from experiments.harness import stored
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.language.examples import Examples
from experiments.language.generation import label_losses, mean_loss
from experiments.language.image_inputs import Seen, seen
from experiments.language.methods import prepare, projection_parameters
from experiments.language.settings import ImageTextSettings
from experiments.language.task import ImageTextTask
from experiments.training.optimisation import bucket, train_settings
from experiments.training.prompt_share import first_alone, write_prompt_share
from experiments.training.result import FIELDS, training_result
from experiments.training.selection import Choice, chosen_rate

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

    from zia_core.training import TrainSummary

RESULT_FIELDS: Mapping[str, Any] = {
    **FIELDS,
    "evaluated_on": str,  # "test" or "val"
    "val_loss_start": float,  # nats per response token
    "val_loss": float,
    "projection_parameters": int,  # of the tuned ones
}


PROJECTION = "visual_projection"  # the module that `projection_lr` is about


@dataclass(frozen=True)
class Encoded:
    """The examples of a run, and what there is to tell of them in its result."""

    training: Examples
    validation: Examples
    asked: Examples  # what is answered after the training
    counts: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class Trained:
    """A trained model, its tokenizer, and the examples of its run."""

    spec: RunSpec
    folder: RunFolder
    model: "nn.Module"
    tokenizer: "PreTrainedTokenizerBase"
    encoded: Encoded
    summary: "TrainSummary"
    adapter: bytes
    losses: Sequence[tuple[float, int]]  # by validation example, with its number of labels
    choice: Choice

    def stop_if_requested(self) -> None:
        """For between two answers: answering takes minutes, and the training is checkpointed."""
        from zia_core.engine import Interrupted

        if reason := self.folder.stop_requested():
            raise Interrupted(reason, self.summary.steps)

    def write(self, predictions: Sequence[dict[str, Any]], scores: Mapping[str, Any]) -> None:
        """Write the run's predictions, those of its validation loss first, and its result."""
        validation = self.encoded.validation
        self.folder.write_predictions(
            [
                {"set": "val-loss", "id": validation.record_id(i), "loss": loss, "labels": labels}
                for i, (loss, labels) in enumerate(self.losses)
            ]
            + [{"set": self.spec.settings.evaluated_on, **each} for each in predictions]
        )
        self.folder.write_result(
            training_result(self.model, self.summary, self.adapter, self.folder)
            | dict(scores)
            | dict(self.encoded.counts)
            | self.choice.as_result()
            | {
                "evaluated_on": self.spec.settings.evaluated_on,
                "val_loss_start": self.summary.first_evaluation["val_loss"],
                "val_loss": mean_loss(self.losses),
                "projection_parameters": projection_parameters(self.model),
            }
        )


def trained(
    spec: RunSpec,
    folder: RunFolder,
    images: Sequence[Path],
    fingerprints: Mapping[str, str],
    encode: "Callable[[PreTrainedTokenizerBase, Seen], Encoded]",
    result_fields: Mapping[str, Any],
    requires: Callable[[RunSpec], list[RunSpec]],
) -> Trained:
    """Train the method of a run, or what is left of that, and save its adapter.

    Args:
        result_fields, requires: of the experiment, for the results that the rate is chosen by.
        images: all that the run may show.
        fingerprints: of the data, for environment.json.
        encode: makes the examples, so that what is wrong with them is found before the training.
    """
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.engine import train
    from zia_core.rng import derived_seed
    from zia_core.trained_weights import pack_trained

    settings: ImageTextSettings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    shown = seen(spec.method, settings, images)
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    model: nn.Module
    model, tokenizer, weights = language_models.load(
        language_models.get(spec.backbone), dtype, settings.device
    )
    data = dict(fingerprints)
    if shown.features is not None:
        data["images"] = shown.features.fingerprint
    folder.write_environment({"data": data, "weights": weights | shown.weights})
    choice = chosen_rate(spec, folder, result_fields, requires)
    encoded = encode(tokenizer, shown)
    identity = backbone_identity(model)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = prepare(model, spec.method, settings, shown.width)
    encoded.training.multiple = bucket(settings)
    task = ImageTextTask(
        encoded.training, encoded.validation, settings.eval_tokens, settings.loss_chunk
    )
    rates = {}
    if settings.projection_lr is not None and choice.peak_lr:
        rates = {PROJECTION: settings.projection_lr / choice.peak_lr}
    chosen = replace(settings, peak_lr=choice.peak_lr)
    optimisation = train_settings(chosen, spec.seed, len(task), rates=rates)
    summary = train(model, task, optimisation, folder)

    model.eval()
    tried = settings.phase == "select"  # nobody asks for the adapter of a trial
    adapter = b"" if tried else pack_trained(model, spec.method, identity)
    if adapter:
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
    if not tried:
        write_prompt_share(
            folder, model, "validation examples", first_alone(encoded.validation), task.loss
        )
    # None: all steps were done before this attempt, their last evaluation included.
    losses = task.found or label_losses(
        model, encoded.validation, settings.eval_tokens, settings.loss_chunk
    )
    return Trained(spec, folder, model, tokenizer, encoded, summary, adapter, losses, choice)
