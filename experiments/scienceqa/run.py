"""One run: load, train, answer, score, write down."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments import backbones
from experiments.harness import stored
from experiments.harness.datafiles import DATA_VARIABLE
from experiments.harness.experiment import Answer, NeedsData
from experiments.harness.files import read_lines
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.image_features.ask import about_image
from experiments.image_features.examples import Examples
from experiments.image_features.loaded import Seen, seen
from experiments.image_features.methods import prepare, projection_parameters
from experiments.image_features.predictions import of_set
from experiments.image_features.sight import answers, label_losses, mean_loss
from experiments.image_features.task import ImageTextTask
from experiments.optimisation import train_settings
from experiments.scienceqa.data import Problem, fingerprint
from experiments.scienceqa.evaluate import SCORES, likeliest, scores
from experiments.scienceqa.prompts import encode, letter_tokens, typed_question
from experiments.scienceqa.settings import Settings
from experiments.scienceqa.subsets import select
from experiments.training_result import FIELDS, training_result
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import nn
    from transformers import PreTrainedTokenizerBase

RESULT_FIELDS: Mapping[str, Any] = {
    **FIELDS,
    **SCORES,
    "evaluated_on": str,  # "test" or "val"
    "val_loss_start": float,  # nats per response token
    "val_loss": float,
    "train_loss_epoch": float | None,  # mean over the steps of the last epoch
    "projection_parameters": int,  # of the tuned ones
    "cut_train": int,  # training questions whose context was cut at max_length
    "cut_scored": int,
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or what is left of it."""
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.engine import train
    from zia_core.rng import derived_seed
    from zia_core.trained import pack_trained

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    parts = _parts(spec)
    scored = parts["scored"]
    for problem in scored:
        problem.scored()  # a field that is missing is better found before the training
    shown = seen(spec.method, settings, _images(parts))
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    model: nn.Module
    model, tokenizer, weights = backbones.load(backbones.get(spec.backbone), dtype, settings.device)
    data = _fingerprints(parts)
    if shown.features is not None:
        data["images"] = shown.features.fingerprint
    folder.write_environment({"data": data, "weights": weights | shown.weights})
    (training, cut_train), (validation, _), (asked, cut_scored) = (
        _examples(part, tokenizer, settings, shown) for part in parts.values()
    )
    identity = backbone_identity(model)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = prepare(model, spec.method, settings, shown.width)
    task = ImageTextTask(training, validation, settings.eval_tokens)
    summary = train(model, task, train_settings(settings, spec.seed, len(task)), folder)

    model.eval()
    adapter = pack_trained(model, spec.method, identity)
    if adapter:
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
    # None: all steps were done before this attempt, their last evaluation included.
    losses = task.found or label_losses(model, validation, settings.eval_tokens)
    found = _answered(model, tokenizer, scored, asked, settings, folder, summary.steps)
    folder.write_predictions(
        [
            {"set": "val-loss", "id": validation.record_id(i), "loss": loss, "labels": labels}
            for i, (loss, labels) in enumerate(losses)
        ]
        + [{"set": settings.evaluated_on, "id": pid, **each} for pid, each in found.items()]
    )
    folder.write_result(
        training_result(model, summary, adapter, folder)
        | scores(scored, found)
        | {
            "evaluated_on": settings.evaluated_on,
            "val_loss_start": summary.first_evaluation["val_loss"],
            "val_loss": mean_loss(losses),
            "train_loss_epoch": last_epoch(read_lines(folder.path / stored.METRICS)),
            "projection_parameters": projection_parameters(model),
            "cut_train": cut_train,
            "cut_scored": cut_scored,
        }
    )


def generate_image(
    path: Path, image: Path, prompts: Sequence[str], device: str
) -> Iterator[Answer]:
    """Answer questions about an image, without and with the adapter.

    A prompt is a question with its options, `Which colour is it?|red|green`.
    """
    settings: Settings = RunSpec.from_json(stored.load(path).config, Settings).settings
    if not prompts:
        raise ZiaError("nothing is asked: give a question with its options, 'Which?|this|that'")
    asked = [typed_question(text, image) for text in prompts]
    return about_image(
        path, image, asked, device, Settings, max_new_tokens=settings.new_tokens, do_sample=False
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute from the predictions what follows from them; the scores need ScienceQA's file."""
    run = stored.load(path)
    spec = RunSpec.from_json(run.config, Settings)
    predictions = run.predictions()
    try:
        parts = _parts(spec)
    except ZiaError as error:
        raise NeedsData(f"the scores: {error}") from error
    data = run.environment.get("data", {})
    if any(data.get(name) != value for name, value in _fingerprints(parts).items()):
        raise NeedsData(f"${DATA_VARIABLE} does not hold the problems that the run was made with")
    losses = of_set(predictions, "val-loss", [problem.id for problem in parts["val"]])
    asked = [problem.id for problem in parts["scored"]]
    found = scores(parts["scored"], of_set(predictions, spec.settings.evaluated_on, asked))
    known = {name: value for name, value in found.items() if value is not None}
    return {"val_loss": mean_loss([(p["loss"], p["labels"]) for p in losses.values()])} | known


def last_epoch(records: Sequence[dict[str, Any]]) -> float | None:
    """The mean training loss over the last epoch of the metrics (Figures 5 and 7, Table 6)."""
    steps = [record for record in records if "loss" in record]
    if not steps:
        return None
    # `epoch` is what was done after a step; rounding must not put a whole one into the next.
    last = [r["loss"] for r in steps if r["epoch"] > steps[-1]["epoch"] - 1 + 1e-9]
    return sum(last) / len(last)


def _parts(spec: RunSpec) -> dict[str, list[Problem]]:
    splits = select(spec.data)
    scored = splits.test if spec.settings.evaluated_on == "test" else splits.val
    return {"train": splits.train, "val": splits.val, "scored": scored}


def _fingerprints(parts: Mapping[str, list[Problem]]) -> dict[str, str]:
    return {f"scienceqa-{name}": fingerprint(part) for name, part in parts.items()}


def _images(parts: Mapping[str, Sequence[Problem]]) -> list[Path]:
    return [p.image for part in parts.values() for p in part if p.image is not None]


def _examples(
    problems: Sequence[Problem],
    tokenizer: "PreTrainedTokenizerBase",
    settings: Settings,
    shown: Seen,
) -> tuple[Examples, int]:
    examples, cut = encode(
        problems,
        tokenizer,
        settings.context,
        settings.max_length,
        lambda problem: shown.row(problem.image),
    )
    return Examples(examples, shown.features), cut


def _answered(
    model: "nn.Module",
    tokenizer: "PreTrainedTokenizerBase",
    problems: Sequence[Problem],
    examples: Examples,
    settings: Settings,
    folder: RunFolder,
    steps: int,
) -> dict[str, dict[str, Any]]:
    """Both answers by pid; a request to stop is heard, since training is checkpointed."""
    from zia_core.engine import Interrupted

    options = [len(problem.choices) for problem in problems]
    letters = letter_tokens(tokenizer)
    likely, found = {}, {}

    def stop_if_requested() -> None:
        if reason := folder.stop_requested():
            raise Interrupted(reason, steps)

    for place, option in likeliest(model, examples, options, letters, settings.eval_tokens):
        stop_if_requested()
        likely[place] = option
    texts = answers(model, tokenizer, examples, max_new_tokens=settings.new_tokens, do_sample=False)
    for place, text in enumerate(texts):
        stop_if_requested()
        found[problems[place].id] = {"output": text, "likeliest": likely[place]}
    return found
