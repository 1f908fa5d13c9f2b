"""One run: load, train, caption, score, write."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.coco_caption import plan
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
from experiments.data.files import DATA_VARIABLE
from experiments.harness import stored
from experiments.harness.experiment import Answer, NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.language.answers import answers
from experiments.language.before_and_after import before_and_after
from experiments.language.examples import Examples
from experiments.language.image_features import RunImages
from experiments.language.losses import mean_loss
from experiments.language.predictions import of_set
from experiments.language.training import (
    IMAGE_TEXT_FIELDS,
    LanguageRun,
    RunExamples,
    train_language_model,
)
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESULT_FIELDS: Mapping[str, Any] = {
    **IMAGE_TEXT_FIELDS,  # the validation loss is over all references
    **SCORES,
    "cut_train": int,  # training captions that were cut at max_length
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or resume it."""
    settings: Settings = spec.settings
    parts = vars(select(spec.task, spec.data))
    scored = parts[settings.evaluated_on]

    def encode(tokenizer: "PreTrainedTokenizerBase", images: RunImages) -> RunExamples:
        (train, cut), (val, _) = (
            training_examples(
                parts[part], tokenizer, settings.prompt, settings.max_length, images.row
            )
            for part in ("train", "val")
        )
        asked = asked_examples(scored, tokenizer, settings.prompt, images.row)
        return RunExamples(
            Examples(train, images.features),
            Examples(val, images.features),
            Examples(asked, images.features),
            {"cut_train": cut},
        )

    trained = train_language_model(
        spec,
        folder,
        {"data": _fingerprints(spec, parts)},
        encode,
        RESULT_FIELDS,
        plan.requires,
        # Of all splits, so that runs scored on different ones share their features.
        [each.image for part in parts.values() for each in part],
    )
    captions = _captions(trained, scored)
    trained.write(
        [{"id": identity, "caption": caption} for identity, caption in captions.items()],
        scores(scored, captions),
    )


def generate_image(
    path: Path, image: Path, prompts: Sequence[str], device: str
) -> Iterator[Answer]:
    """Caption an image, or continue other prompts about it, without and with the adapter."""
    settings: Settings = RunSpec.from_json(stored.load(path).config, Settings).settings
    return before_and_after(
        path,
        prompts or [PROMPTS[settings.prompt]],
        device,
        Settings,
        settings.answered_together,
        image,
        max_new_tokens=settings.new_tokens,
        **DECODINGS[settings.decoding],
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute the scores from the predictions and the references."""
    run = stored.load(path)
    spec = RunSpec.from_json(run.config, Settings)
    predictions = run.predictions(
        {"id": int | str, "set": str, "loss": float, "labels": int, "caption": str}
    )
    try:
        parts = vars(select(spec.task, spec.data))
    except ZiaError as error:
        raise NeedsData(f"the scores: {error}") from error
    data = run.environment.get("data", {})
    if any(data.get(name) != value for name, value in _fingerprints(spec, parts).items()):
        raise NeedsData(f"${DATA_VARIABLE} does not hold the captions that the run was made with")
    losses = of_set(predictions, "val-loss", caption_ids(parts["val"]))
    scored = parts[spec.settings.evaluated_on]
    asked = [each.id for each in scored]
    written = of_set(predictions, spec.settings.evaluated_on, asked)
    found = scores(scored, {each: p["caption"] for each, p in written.items()})
    val_loss = mean_loss([(p["loss"], p["labels"]) for p in losses.values()])
    return {"val_loss": val_loss} | {name: float(value) for name, value in found.items()}


def _captions(trained: LanguageRun, images: Sequence[Captioned]) -> dict[Any, str]:
    """The caption of every image by its id: the first line, as in the official results."""
    import torch

    from zia_core.rng import derived_seed

    settings: Settings = trained.spec.settings
    torch.manual_seed(derived_seed(trained.spec.seed, "decoding"))
    texts = answers(
        trained.model,
        trained.tokenizer,
        trained.examples.asked,
        settings.answered_together,
        max_new_tokens=settings.new_tokens,
        **DECODINGS[settings.decoding],
    )
    captions = {}
    with trained.precision():
        for each, text in zip(images, texts, strict=True):
            trained.stop_if_requested()
            captions[each.id] = text.partition("\n")[0].strip()
    return captions


def _fingerprints(spec: RunSpec, parts: Mapping[str, list[Captioned]]) -> dict[str, str]:
    """The fingerprints of what the run learns from and is scored on."""
    found = {f"{spec.task}-{name}": fingerprint(parts[name]) for name in ("train", "val")}
    if spec.settings.evaluated_on == "test":
        found[f"{spec.task}-scored"] = fingerprint(parts["test"])
    return found
