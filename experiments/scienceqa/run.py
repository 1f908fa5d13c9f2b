"""One run: load, train, answer, score, write."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

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
from experiments.language.tokens import response_ids
from experiments.language.training import (
    IMAGE_TEXT_FIELDS,
    LanguageRun,
    RunExamples,
    train_language_model,
)
from experiments.scienceqa import plan
from experiments.scienceqa.data import Problem, fingerprint
from experiments.scienceqa.evaluate import SCORES, baselines, likeliest, scores
from experiments.scienceqa.prompts import encode as encode_problems
from experiments.scienceqa.prompts import explanation, letter_tokens, typed_question
from experiments.scienceqa.settings import Settings
from experiments.scienceqa.subsets import select
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

RESULT_FIELDS: Mapping[str, Any] = {
    **IMAGE_TEXT_FIELDS,
    **SCORES,
    "train_loss_epoch": float | None,  # mean over the steps of the last epoch
    "cut_train": int,  # training questions whose context was cut at max_length
    "cut_scored": int,
    # Beside these, in runs from now on: `evaluate.BASELINES`, what `Choice.as_result` says, and
    # both kinds of scores as "val_..." where the validation questions are scored too.
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or resume it."""
    settings: Settings = spec.settings
    parts = _parts(spec)
    scored = parts[settings.evaluated_on]
    for problem in [*scored, *_also_scored(settings, parts)]:
        problem.scored()  # so that a missing field is found before the training

    def encode(tokenizer: "PreTrainedTokenizerBase", images: RunImages) -> RunExamples:
        (train, cut_train), (val, _), (asked, cut_scored) = (
            encode_problems(
                part,
                tokenizer,
                settings.context,
                settings.max_length,
                lambda problem: images.row(problem.image),
                settings.output,
            )
            for part in (parts["train"], parts["val"], scored)
        )
        return RunExamples(
            Examples(train, images.features),
            Examples(val, images.features),
            Examples(asked, images.features),
            {"cut_train": cut_train, "cut_scored": cut_scored},
        )

    trained = train_language_model(
        spec,
        folder,
        {"data": _fingerprints(spec, parts)},
        encode,
        RESULT_FIELDS,
        plan.requires,
        # Of all splits, so that runs scored on different ones share their features.
        [p.image for part in parts.values() for p in part if p.image is not None],
    )
    found = _answers(trained, trained.examples.asked, scored)
    predictions = [{"id": pid, **each} for pid, each in found.items()]
    result = scores(scored, found) | baselines(parts["train"], scored)
    if also := _also_scored(settings, parts):
        found = _answers(trained, trained.examples.validation, also)
        predictions += [{"set": "val", "id": pid, **each} for pid, each in found.items()]
        result |= _of_validation(scores(also, found) | baselines(parts["train"], also))
    epoch = last_epoch(stored.metrics(folder.path))
    trained.write(predictions, result | {"train_loss_epoch": epoch})


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
    return before_and_after(
        path,
        asked,
        device,
        Settings,
        settings.answered_together,
        image,
        max_new_tokens=settings.new_tokens,
        do_sample=False,
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute the scores from the predictions and ScienceQA's own file."""
    run = stored.load(path)
    spec = RunSpec.from_json(run.config, Settings)
    predictions = run.predictions(
        {"id": str, "set": str, "loss": float, "labels": int, "output": str, "likeliest": int}
    )
    try:
        parts = _parts(spec)
    except ZiaError as error:
        raise NeedsData(f"the scores: {error}") from error
    data = run.environment.get("data", {})
    if any(data.get(name) != value for name, value in _fingerprints(spec, parts).items()):
        raise NeedsData(f"${DATA_VARIABLE} does not hold the problems that the run was made with")
    losses = of_set(predictions, "val-loss", [problem.id for problem in parts["val"]])
    scored = parts[spec.settings.evaluated_on]
    asked = [problem.id for problem in scored]
    found = scores(scored, of_set(predictions, spec.settings.evaluated_on, asked))
    if also := _also_scored(spec.settings, parts):
        answered = of_set(predictions, "val", [problem.id for problem in also])
        found |= _of_validation(scores(also, answered))
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
    return vars(select(spec.data))


def _also_scored(settings: Settings, parts: Mapping[str, list[Problem]]) -> list[Problem]:
    """The validation questions, where they are scored beside the test questions."""
    return parts["val"] if settings.also_validated else []


def _of_validation(result: Mapping[str, Any]) -> dict[str, Any]:
    return {f"val_{name}": value for name, value in result.items()}


def _fingerprints(spec: RunSpec, parts: Mapping[str, list[Problem]]) -> dict[str, str]:
    """The fingerprints of what the run learns from and is scored on."""
    found = {f"scienceqa-{name}": fingerprint(parts[name]) for name in ("train", "val")}
    if spec.settings.evaluated_on == "test":
        found["scienceqa-scored"] = fingerprint(parts["test"])
    return found


def _answers(
    trained: LanguageRun, asked: Examples, problems: Sequence[Problem]
) -> dict[str, dict[str, Any]]:
    """Both answers by pid, in the precision of the training."""
    with trained.precision():
        return dict(_answered(trained, asked, problems))


def _answered(
    trained: LanguageRun, asked: Examples, problems: Sequence[Problem]
) -> Iterator[tuple[str, dict[str, Any]]]:
    settings: Settings = trained.spec.settings
    model, tokenizer = trained.model, trained.tokenizer
    written: dict[str, str] = {}
    texts = answers(
        model,
        tokenizer,
        asked,
        settings.answered_together,
        max_new_tokens=settings.new_tokens,
        do_sample=False,
    )
    for problem, text in zip(problems, texts, strict=True):
        trained.stop_if_requested()
        written[problem.id] = text
    said = None
    if settings.output == "EA":
        ids = response_ids(tokenizer, [explanation(text) for text in written.values()])
        said = {pid: tokens[:-1] for pid, tokens in zip(written, ids, strict=True)}  # without EOS
    options = [len(problem.choices) for problem in problems]
    likely = likeliest(model, asked, options, letter_tokens(tokenizer), settings.eval_tokens, said)
    for place, option in likely:
        trained.stop_if_requested()
        pid = problems[place].id
        yield pid, {"output": written[pid], "likeliest": option}
