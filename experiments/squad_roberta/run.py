"""One run: load, train, answer, score, write."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from experiments.backbones import language_models
from experiments.backbones.text_encoders import load_for_question_answering
from experiments.harness import stored
from experiments.harness.experiment import NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.squad_roberta import methods, plan, subsets
from experiments.squad_roberta.data import Question, fingerprint
from experiments.squad_roberta.decode import Decoded, choose_threshold, predictions
from experiments.squad_roberta.evaluate import answered, right_answers, scores
from experiments.squad_roberta.features import WindowDataset, features
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.task import SpanTask
from experiments.squad_roberta.windows import WindowSettings
from experiments.training.method_training import TrainedModel, train_method
from experiments.training.optimisation import bucket, set_threads, weights_dtype
from experiments.training.prompt_share import first_alone, write_prompt_share
from experiments.training.result import FIELDS, training_result
from experiments.training.selection import chosen_rate
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

RESULT_FIELDS: Mapping[str, Any] = {
    **FIELDS,
    "exact": float,  # percent, by the official scorer
    "f1": float,
    "has_answer_exact": float | None,  # these four only in v2.0
    "has_answer_f1": float | None,
    "no_answer_exact": float | None,
    "no_answer_f1": float | None,
    "null_threshold": float | None,  # v2.0: the highest null odds at which a question is answered
    "questions": int,  # scored
    "evaluated_on": str,  # "dev", or "validation" in a select run
    "val_loss_start": float,  # nats: mean of start and end, over the held-out windows
    "val_loss": float,
    "peak_lr": float,
    "candidates": int,  # rates that this one was chosen from; 0: it was given
    # Newer runs also have "tried", see `selection.Choice`.
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or resume it."""
    from zia_core.rng import derived_seed

    settings: Settings = spec.settings
    set_threads(settings)
    is_final, is_v2 = settings.phase == "final", subsets.TASKS[spec.task] == "2.0"
    splits = subsets.select(spec.task, spec.data)
    if not splits.validation:
        raise ZiaError("no training paragraph is held out, so nothing can be validated: use more")
    backbone, tokenizer, weights = load_for_question_answering(
        language_models.get(spec.backbone),
        weights_dtype(settings),
        settings.device,
        seed=derived_seed(spec.seed, "head"),
        hidden_dropout=settings.hidden_dropout,
    )
    data = {f"squad-{part}": fingerprint(found) for part, found in vars(splits).items()}
    folder.write_environment({"data": data, "weights": weights})
    choice = chosen_rate(spec, folder, RESULT_FIELDS, plan.requires)
    cut = WindowSettings(settings.max_length, settings.stride, settings.max_question)
    training, validation = (
        features(part, tokenizer, cut) for part in (splits.train, splits.validation)
    )
    training.multiple = bucket(settings)
    task = SpanTask(training, validation, settings.eval_tokens)
    trained = train_method(
        spec,
        folder,
        backbone,
        lambda model: methods.prepare(model, spec.method, settings),
        lambda model: task,
        replace(settings, peak_lr=choice.peak_lr),
        keep_adapter=is_final,
    )
    if is_final:
        alone = first_alone(validation)
        write_prompt_share(folder, trained.model, "validation windows", alone, task.loss, settings)
    threshold = None
    decoded: list[Decoded] = []
    scored = splits.validation
    if is_v2 or not is_final:
        decoded = _answers(trained, scored, validation, settings)
    if is_v2:
        # A select run is scored on the questions it is chosen on; there the loss decides.
        threshold = choose_threshold(decoded, right_answers(scored))
    if is_final:
        scored = splits.dev
        decoded = _answers(trained, scored, features(scored, tokenizer, cut), settings)
    folder.write_predictions(
        {"id": each.id, "text": each.best, "null_odds": each.null_odds} for each in decoded
    )
    folder.write_result(
        training_result(trained)
        | scores(subsets.TASKS[spec.task], scored, predictions(decoded, threshold))
        | choice.as_result()
        | {
            "null_threshold": threshold,
            "questions": len(scored),
            "evaluated_on": "dev" if is_final else "validation",
            "val_loss_start": trained.summary.first_evaluation["val_loss"],
            "val_loss": trained.summary.last_evaluation["val_loss"],
        }
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute the scores from the predictions and SQuAD's own file."""
    run = stored.load(path)
    spec = RunSpec.from_json(run.config, Settings)
    part = "validation" if spec.settings.phase == "select" else "dev"
    try:
        if part == "validation":
            questions = subsets.select(spec.task, spec.data).validation
        else:
            questions = subsets.development(spec.task, spec.data)
    except ZiaError as error:
        raise NeedsData(f"exact and f1: {error}") from error
    if run.environment.get("data", {}).get(f"squad-{part}") != fingerprint(questions):
        raise NeedsData("exact and f1: the questions here are not those that the run answered")
    decoded = [
        # With one answer, null odds are the null score minus the answer's.
        Decoded(p["id"], (p["text"],), (0.0,), p["null_odds"])
        for p in run.predictions({"id": str, "text": str, "null_odds": float | None})
    ]
    result = conform_fields({"null_threshold": float | None}, run.result, run.result.where)
    answers = predictions(decoded, result["null_threshold"])
    computed = scores(subsets.TASKS[spec.task], questions, answers)
    return {name: value for name, value in computed.items() if value is not None}


def _answers(
    trained: TrainedModel, questions: Sequence[Question], dataset: WindowDataset, settings: Settings
) -> list[Decoded]:
    found = []
    for each in answered(trained.model, questions, dataset, settings):
        trained.stop_if_requested()
        found.append(each)
    return found
