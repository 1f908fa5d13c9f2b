"""One run: load, train, answer, score, write down."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.backbones import language_models
from experiments.backbones.text_encoders import load_for_question_answering
from experiments.harness import stored
from experiments.harness.experiment import NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.squad_roberta import methods, subsets
from experiments.squad_roberta.data import Question, fingerprint
from experiments.squad_roberta.decode import Decoded, choose_threshold, predictions
from experiments.squad_roberta.evaluate import answered, right_answers, scores
from experiments.squad_roberta.features import WindowDataset, features
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.task import SpanTask
from experiments.squad_roberta.windows import WindowSettings
from experiments.training.optimisation import bucket, train_settings
from experiments.training.prompt_share import first_alone, write_prompt_share
from experiments.training.result import FIELDS, training_result
from experiments.training.selection import chosen_rate
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

if TYPE_CHECKING:
    from torch import nn

RESULT_FIELDS: Mapping[str, Any] = {
    **FIELDS,
    "exact": float,  # percent, by the official scorer
    "f1": float,
    "has_answer_exact": float | None,  # these four in v2.0 alone
    "has_answer_f1": float | None,
    "no_answer_exact": float | None,
    "no_answer_f1": float | None,
    "null_threshold": float | None,  # v2.0: the highest null odds at which a question is answered
    "questions": int,  # that were scored
    "evaluated_on": str,  # "dev", or "validation" where a rate is tried
    "val_loss_start": float,  # nats: mean of start and end, over the windows held out
    "val_loss": float,
    "peak_lr": float,
    "candidates": int,  # rates that this one was chosen from; 0: it was given
    # Beside these, in runs from now on, "tried": what they were chosen from (`selection.Choice`).
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or what is left of it."""
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.engine import train
    from zia_core.rng import derived_seed
    from zia_core.trained_weights import pack_trained

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    splits = subsets.select(spec.task, spec.data)
    if not splits.validation:
        raise ZiaError("no training paragraph is held out, so nothing can be validated: use more")
    model: nn.Module
    model, tokenizer, weights = load_for_question_answering(
        language_models.get(spec.backbone),
        torch.bfloat16 if settings.precision == "bf16" else torch.float32,
        settings.device,
        seed=derived_seed(spec.seed, "head"),
        hidden_dropout=settings.hidden_dropout,
    )
    data = {f"squad-{part}": fingerprint(found) for part, found in vars(splits).items()}
    folder.write_environment({"data": data, "weights": weights})
    choice = chosen_rate(spec, folder, RESULT_FIELDS)
    cut = WindowSettings(settings.max_length, settings.stride, settings.max_question)
    training, validation = (
        features(part, tokenizer, cut) for part in (splits.train, splits.validation)
    )
    identity = backbone_identity(model)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = methods.prepare(model, spec.method, settings)
    training.multiple = bucket(settings)
    task = SpanTask(training, validation, settings.eval_tokens)
    optimisation = replace(settings, peak_lr=choice.peak_lr)
    summary = train(model, task, train_settings(optimisation, spec.seed, len(task)), folder)

    model.eval()
    adapter = b""  # nobody asks for that of a rate that was tried
    if settings.phase == "final":
        adapter = pack_trained(model, spec.method, identity)
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
        write_prompt_share(folder, model, "validation windows", first_alone(validation), task.loss)
    held_out = splits.validation, validation
    threshold = None
    decoded: list[Decoded] = []
    scored = splits.validation
    if subsets.TASKS[spec.task] == "2.0" or settings.phase == "select":
        decoded = _answers(model, *held_out, settings, folder, summary.steps)
    if subsets.TASKS[spec.task] == "2.0":
        # Chosen and scored on the same questions in the phase "select", where the loss decides.
        threshold = choose_threshold(decoded, right_answers(scored))
    if settings.phase == "final":
        scored, dataset = splits.dev, features(splits.dev, tokenizer, cut)
        decoded = _answers(model, scored, dataset, settings, folder, summary.steps)
    folder.write_predictions(
        {"id": each.id, "text": each.best, "null_odds": each.null_odds} for each in decoded
    )
    folder.write_result(
        training_result(model, summary, adapter, folder)
        | scores(subsets.TASKS[spec.task], scored, predictions(decoded, threshold))
        | choice.as_result()
        | {
            "null_threshold": threshold,
            "questions": len(scored),
            "evaluated_on": "validation" if settings.phase == "select" else "dev",
            "val_loss_start": summary.first_evaluation["val_loss"],
            "val_loss": summary.last_evaluation["val_loss"],
        }
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute the scores from the predictions; SQuAD's own file is needed for the answers."""
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
    model: "nn.Module",
    questions: Sequence[Question],
    dataset: WindowDataset,
    settings: Settings,
    folder: RunFolder,
    steps: int,
) -> list[Decoded]:
    """All answers; a request to stop is heard, since they take minutes and training is kept."""
    from zia_core.engine import Interrupted

    found = []
    for each in answered(model, questions, dataset, settings):
        if reason := folder.stop_requested():
            raise Interrupted(reason, steps)
        found.append(each)
    return found
