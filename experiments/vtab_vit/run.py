"""One run: load, choose, train, score once, write."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.backbones import vision_models
from experiments.data.subsets import SAMPLE, sample
from experiments.harness import stored
from experiments.harness.experiment import NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.images import protocols
from experiments.images.task_folder import Example, TaskData
from experiments.io.files import canonical_json
from experiments.training.method_training import train_method
from experiments.training.optimisation import set_threads
from experiments.training.prompt_share import EXAMPLES, write_prompt_share
from experiments.training.result import FIELDS, training_result
from experiments.vtab_vit import methods, selection, subsets, tasks
from experiments.vtab_vit.inputs import Inputs
from experiments.vtab_vit.loaded_task import loaded
from experiments.vtab_vit.settings import Settings
from zia_core.errors import ZiaError

RESULT_FIELDS: dict[str, Any] = {
    "accuracy": float,  # top-1, in [0, 1]
    "correct": int,
    "images": int,  # scored
    "evaluated_on": str,  # "val" in a select run, "test" in a final one
    "peak_lr": float,  # as chosen
    "weight_decay": float,
    "candidates": int,  # that it was chosen from
    **FIELDS,
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or resume it."""
    settings: Settings = spec.settings
    set_threads(settings)
    protocol = protocols.get(settings.protocol, settings.resolution)
    known = vision_models.get(spec.backbone)
    backbone, weights = vision_models.load(known, settings.resolution)
    task = tasks.get(spec.task)
    # The candidates may have been tried on other tasks.
    names = dict.fromkeys(each.task for each in selection.select_runs(spec))
    tried_on = [tasks.get(name) for name in names]
    needed = [task, *tried_on]
    # Every call of `loaded` looks at all files, which are up to 73,728.
    images = loaded(task, needed)
    others = {each.name: loaded(each, needed) for each in tried_on if each != task}
    fingerprints = {
        name: each.contents.fingerprint for name, each in {task.name: images, **others}.items()
    }
    trained_on, scored_on = _parts(images.data, spec)
    folder.write_environment(
        {
            "data": fingerprints,
            "weights": weights,
            "test_images_that_are_training_images": images.contents.shared,
        }
    )
    rate, decay = selection.chosen(spec, folder, RESULT_FIELDS)

    def inputs(model: Any) -> Inputs:
        return Inputs(images, protocol, model, spec, canonical_json(weights))

    trained = train_method(
        spec,
        folder,
        backbone.to(settings.device),
        lambda model: methods.prepare(model, spec.method, task.classes, settings, spec.seed),
        lambda model: inputs(model).training(trained_on),
        replace(settings, peak_lr=rate, weight_decay=decay),
        checkpoints=1,  # one at the end, and one every 500 steps: a reduced run takes seconds
    )
    guesses = []
    for batch in inputs(trained.model).guesses(scored_on):
        trained.stop_if_requested()
        guesses += batch
    write_prompt_share(
        folder,
        trained.model,
        "images that the run is scored on",
        ({"images": image[None]} for image in images.images(scored_on[:EXAMPLES], protocol)),
        lambda model, batch: model(batch["images"]),
        settings,
    )
    predictions = [
        {"id": example.name, "label": guess}
        for example, guess in zip(scored_on, guesses, strict=True)
    ]
    folder.write_predictions(predictions)
    folder.write_result(
        {
            **_scores(predictions, scored_on),
            "images": len(scored_on),
            "evaluated_on": "val" if settings.phase == "select" else "test",
            "peak_lr": rate,
            "weight_decay": decay,
            "candidates": len(settings.candidates) if settings.peak_lr is None else 1,
            **training_result(trained),
        }
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute the accuracy from the predictions and the task's lists."""
    run = stored.load(path)
    spec = RunSpec.from_json(run.config, Settings)
    task = tasks.get(spec.task)
    try:
        images = loaded(task)
    except ZiaError as error:
        raise NeedsData(str(error)) from error
    known = run.environment.get("data") or {}
    if known.get(task.name) != images.contents.fingerprint:
        raise NeedsData(f"{images.data.folder} does not hold the files that the run was made with")
    return _scores(run.predictions({"id": str, "label": int}), _parts(images.data, spec)[1])


def _scores(
    predictions: Sequence[dict[str, Any]], scored_on: Sequence[Example]
) -> dict[str, float]:
    guessed = {prediction["id"]: prediction["label"] for prediction in predictions}
    if len(predictions) != len(scored_on) or guessed.keys() != {each.name for each in scored_on}:
        raise ZiaError(
            f"the predictions are not one for each of the {len(scored_on)} images that this run is "
            "scored on: do the run again"
        )
    correct = sum(guessed[example.name] == example.label for example in scored_on)
    return {"accuracy": correct / len(scored_on), "correct": correct}


def _parts(data: TaskData, spec: RunSpec) -> tuple[Sequence[Example], Sequence[Example]]:
    """The images that a run is trained on, and those it is scored on."""
    scored = subsets.test_images(data.test, spec.data)
    trained = data.train_val
    if spec.settings.phase == "select":
        trained, scored = data.train, data.val
    if spec.data == SAMPLE:
        trained, scored = tuple(sample(trained, trained=True)), tuple(sample(scored))
    return trained, scored
