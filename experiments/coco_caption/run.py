"""One run: load, train, caption, score, write down."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import backbones
from experiments.coco_caption.captions import (
    DECODINGS,
    PROMPTS,
    SCORES,
    asked_examples,
    caption_ids,
    scores,
    training_examples,
)
from experiments.coco_caption.data import Captioned, fingerprint, select
from experiments.coco_caption.settings import Settings
from experiments.harness import stored
from experiments.harness.datafiles import DATA_VARIABLE
from experiments.harness.experiment import Answer, NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.image_features.ask import about_image
from experiments.image_features.examples import Examples
from experiments.image_features.loaded import seen
from experiments.image_features.methods import prepare, projection_parameters
from experiments.image_features.predictions import of_set
from experiments.image_features.sight import answers, label_losses, mean_loss
from experiments.image_features.task import ImageTextTask
from experiments.optimisation import train_settings
from experiments.training_result import FIELDS, training_result
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn

RESULT_FIELDS: Mapping[str, Any] = {
    **FIELDS,
    **SCORES,
    "evaluated_on": str,  # "test" or "val"
    "val_loss_start": float,  # nats per caption token, over all references
    "val_loss": float,
    "projection_parameters": int,  # of the tuned ones
    "cut_train": int,  # training captions that were cut at max_length
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or what is left of it."""
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.engine import Interrupted, train
    from zia_core.rng import derived_seed
    from zia_core.trained import pack_trained

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    parts = _parts(spec)
    scored = parts["scored"]
    shown = seen(spec.method, settings, [each.image for part in parts.values() for each in part])
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    model: nn.Module
    model, tokenizer, weights = backbones.load(backbones.get(spec.backbone), dtype, settings.device)
    data = _fingerprints(spec, parts)
    if shown.features is not None:
        data["images"] = shown.features.fingerprint
    folder.write_environment({"data": data, "weights": weights | shown.weights})
    (training, cut), (validation, _) = (
        training_examples(part, tokenizer, settings.prompt, settings.max_length, shown.rows)
        for part in (parts["train"], parts["val"])
    )
    identity = backbone_identity(model)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = prepare(model, spec.method, settings, shown.width)
    task = ImageTextTask(
        Examples(training, shown.features),
        Examples(validation, shown.features),
        settings.eval_tokens,
    )
    summary = train(model, task, train_settings(settings, spec.seed, len(task)), folder)

    model.eval()
    adapter = pack_trained(model, spec.method, identity)
    if adapter:
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
    # None: all steps were done before this attempt, their last evaluation included.
    losses = task.found or label_losses(model, task.validation, settings.eval_tokens)
    asked = Examples(
        list(asked_examples(scored, tokenizer, settings.prompt, shown.rows)), shown.features
    )
    torch.manual_seed(derived_seed(spec.seed, "decoding"))
    captions = {}
    texts = answers(
        model,
        tokenizer,
        asked,
        max_new_tokens=settings.new_tokens,
        **DECODINGS[settings.decoding],
    )
    for each, text in zip(scored, texts, strict=True):
        if reason := folder.stop_requested():  # captions take minutes; training is checkpointed
            raise Interrupted(reason, summary.steps)
        # As in the official results: a caption is its first line.
        captions[each.id] = text.partition("\n")[0].strip()
    folder.write_predictions(
        [
            {"set": "val-loss", "id": task.validation.record_id(i), "loss": loss, "labels": labels}
            for i, (loss, labels) in enumerate(losses)
        ]
        + [
            {"set": settings.evaluated_on, "id": identity, "caption": caption}
            for identity, caption in captions.items()
        ]
    )
    folder.write_result(
        training_result(model, summary, adapter, folder)
        | scores(scored, captions)
        | {
            "evaluated_on": settings.evaluated_on,
            "val_loss_start": summary.first_evaluation["val_loss"],
            "val_loss": mean_loss(losses),
            "projection_parameters": projection_parameters(model),
            "cut_train": cut,
        }
    )


def generate_image(
    path: Path, image: Path, prompts: Sequence[str], device: str
) -> Iterator[Answer]:
    """Caption an image, or continue other prompts about it, without and with the adapter."""
    settings: Settings = RunSpec.from_json(stored.load(path).config, Settings).settings
    return about_image(
        path,
        image,
        prompts or [PROMPTS[settings.prompt]],
        device,
        Settings,
        max_new_tokens=settings.new_tokens,
        **DECODINGS[settings.decoding],
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute from the predictions what follows from them; the scores need the references."""
    run = stored.load(path)
    spec = RunSpec.from_json(run.config, Settings)
    predictions = run.predictions()
    try:
        parts = _parts(spec)
    except ZiaError as error:
        raise NeedsData(f"the scores: {error}") from error
    data = run.environment.get("data", {})
    if any(data.get(name) != value for name, value in _fingerprints(spec, parts).items()):
        raise NeedsData(f"${DATA_VARIABLE} does not hold the captions that the run was made with")
    losses = of_set(predictions, "val-loss", caption_ids(parts["val"]))
    asked = [each.id for each in parts["scored"]]
    written = of_set(predictions, spec.settings.evaluated_on, asked)
    found = scores(parts["scored"], {each: p["caption"] for each, p in written.items()})
    val_loss = mean_loss([(p["loss"], p["labels"]) for p in losses.values()])
    return {"val_loss": val_loss} | _numbers(found)


def _parts(spec: RunSpec) -> dict[str, list[Captioned]]:
    splits = select(spec.task, spec.data)
    scored = splits.test if spec.settings.evaluated_on == "test" else splits.val
    return {"train": splits.train, "val": splits.val, "scored": scored}


def _fingerprints(spec: RunSpec, parts: Mapping[str, list[Captioned]]) -> dict[str, str]:
    return {f"{spec.task}-{name}": fingerprint(part) for name, part in parts.items()}


def _numbers(found: dict[str, Any]) -> dict[str, float]:
    return {name: float(value) for name, value in found.items()}
