"""One run: load, train, evaluate, write."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama import language_loss, plan
from experiments.alpaca_llama.data import Record, fingerprint, load_alpaca
from experiments.alpaca_llama.examples import encode as encode_records
from experiments.alpaca_llama.examples import prompts as prompt_texts
from experiments.alpaca_llama.instructions import Instruction, load_user_oriented, own_instructions
from experiments.alpaca_llama.settings import Settings
from experiments.alpaca_llama.subsets import select
from experiments.alpaca_llama.vicuna import answer_records, load_questions
from experiments.alpaca_llama.vicuna import fingerprint as fingerprint_questions
from experiments.harness import stored
from experiments.harness.experiment import Answer, NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.io.files import canonical_json
from experiments.language import templates
from experiments.language.answers import answers
from experiments.language.before_and_after import before_and_after
from experiments.language.examples import Example, Examples
from experiments.language.image_features import RunImages
from experiments.language.losses import mean_loss
from experiments.language.training import LanguageRun, RunExamples, train_language_model
from experiments.metrics import load_metric
from experiments.mini_world.provided import PROFILE as MINI
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

# How the paper's samples were decoded (section 4.1), and the deterministic way.
DECODINGS: dict[str, dict[str, Any]] = {
    "greedy": {"do_sample": False},
    "sampled": {"do_sample": True, "top_p": 0.75, "temperature": 0.1},
}
ANSWERED_TOGETHER = 16  # prompts

RESULT_FIELDS: dict[str, Any] = {
    "tuned_parameters": int,
    "adapter_bytes": int,
    "adapter_sha256": str | None,
    "steps": int,
    "train_seconds": float,  # of the optimiser steps
    "tokens_per_s": float | None,  # of training, without padding; None if nothing is trained
    "peak_memory_bytes": int | None,  # of training
    "train_loss_first": float | None,  # of step 1; `training.result` has the mean of a tenth
    "train_loss_last": float | None,
    "val_loss_start": float,  # nats per response token
    "val_loss": float,
    "val_ppl": float,
    "rouge_l": float | None,  # greedy answers to validation records, in [0, 1]
    "truncated": int,  # training examples cut at max_length
    # Newer runs also have the fields of `selection.Choice`, and `language_loss`, nats per token of
    # plain text (see `language_loss`), None without such text.
}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or resume it."""
    settings: Settings = spec.settings
    records = load_alpaca()
    splits = select(records, spec.data)
    held_out = splits.validation if settings.validate_on == "validation" else splits.development
    user_oriented = load_user_oriented() if settings.user_oriented else []
    questions = load_questions() if settings.vicuna else []
    texts = language_loss.held_out_texts(spec.profile)
    data = {"alpaca": fingerprint(records)}
    if questions:
        data["vicuna80"] = fingerprint_questions(questions)

    def encode(tokenizer: "PreTrainedTokenizerBase", images: RunImages) -> RunExamples:
        length, template = settings.max_length, settings.template
        train, cut = encode_records(splits.train, tokenizer, length, template)
        validation, _ = encode_records(held_out, tokenizer, length, template)
        return RunExamples(train, validation, Examples([]), {"truncated": cut})

    trained = train_language_model(
        spec,
        folder,
        # The held-out texts are not fingerprinted: measuring on them does not change the run.
        {"data": data, "language": texts.about},
        encode,
        RESULT_FIELDS,
        plan.requires,
        validated_on="validation records",
        sharded=plan.in_shards(spec),
    )
    final = settings.phase == "final"  # of a select run only the validation loss is wanted
    predictions = trained.validation_losses("validation")
    if texts.texts and final:
        with trained.precision():
            predictions += language_loss.language_losses(
                trained.model,
                trained.tokenizer,
                texts.texts,
                settings.eval_tokens,
                settings.loss_chunk,
            )
    # In `mini`, the records that are answered include the instructions asked by default.
    default = own_instructions(spec.profile) if final and spec.profile != MINI else []
    answered = held_out[: settings.answered]
    asked = [("nine", each) for each in default]
    asked += [("user-oriented", each) for each in user_oriented]
    asked += [("alpaca", _instruction(record)) for record in answered]
    for decoding in DECODINGS:
        trained.stop_if_requested()
        # Records are answered for ROUGE-L, in the deterministic way only.
        chosen = [each for each in asked if decoding == "greedy" or each[0] != "alpaca"]
        outputs = _answers(trained, [each for _, each in chosen], decoding, spec.seed)
        predictions += [
            {"set": name, "id": each.id, "decoding": decoding, "output": output}
            for (name, each), output in zip(chosen, outputs, strict=True)
        ]
    if questions:
        trained.stop_if_requested()
        outputs = _answers(trained, questions, "greedy")
        with folder.writing(stored.ANSWERS) as path:
            lines = map(canonical_json, answer_records(spec, questions, outputs))
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    folder.write_predictions(predictions)
    folder.write_result(_result(trained, predictions, answered))


def rescore(path: Path) -> dict[str, float]:
    """Recompute the scores from the predictions; ROUGE-L needs Alpaca's own file."""
    run = stored.load(path)
    predictions = run.predictions(
        {"id": str, "set": str, "loss": float, "labels": int, "output": str, "decoding": str}
    )
    losses = [(p["loss"], p["labels"]) for p in predictions if p["set"] == "validation"]
    scores = _loss_scores(mean_loss(losses))
    if (language_loss := _language_loss(predictions)) is not None:
        scores["language_loss"] = language_loss
    if run.result["rouge_l"] is None:
        return scores
    try:
        records = load_alpaca()
    except ZiaError as error:
        raise NeedsData(f"rouge_l: {error}") from error
    rouge_l = _rouge_l(predictions, records)
    return scores if rouge_l is None else scores | {"rouge_l": rouge_l}


def generate(path: Path, prompts: Sequence[str], device: str) -> Iterator[Answer]:
    """Answer instructions without and with the adapter of a finished run."""
    spec = RunSpec.from_json(stored.load(path).config, Settings)
    asked = [Instruction(str(i), text) for i, text in enumerate(prompts)]
    asked = asked or own_instructions(spec.profile)
    found = before_and_after(
        path,
        prompt_texts(asked, spec.settings.template),
        device,
        Settings,
        ANSWERED_TOGETHER,
        template=spec.settings.template,
        max_new_tokens=spec.settings.new_tokens,
        **DECODINGS["greedy"],
    )
    for each, answer in zip(asked, found, strict=True):
        prompt = f"{each.instruction}\n{each.input}" if each.input else each.instruction
        yield replace(answer, prompt=prompt)


def _answers(
    trained: LanguageRun, asked: Sequence[Instruction], decoding: str, seed: int = 0
) -> list[str]:
    """The model's answers in order; a sample depends on the seed and the batch size."""
    import torch

    template = templates.named(trained.spec.settings.template, trained.tokenizer)
    prompts = template.prompt_ids(prompt_texts(asked, trained.spec.settings.template))
    examples = [Example(each.id, ids, []) for each, ids in zip(asked, prompts, strict=True)]
    torch.manual_seed(seed)
    found = answers(
        trained.model,
        trained.tokenizer,
        Examples(examples),
        ANSWERED_TOGETHER,
        template.ends,
        max_new_tokens=trained.spec.settings.new_tokens,
        **DECODINGS[decoding],
    )
    with trained.precision():
        return list(found)


def _result(
    trained: LanguageRun, predictions: Sequence[dict[str, Any]], answered: Sequence[Record]
) -> dict[str, Any]:
    from zia_core.baselines import tuned_parameters

    summary, adapter = trained.summary, trained.adapter
    return {
        "tuned_parameters": tuned_parameters(trained.model),
        "adapter_bytes": len(adapter),
        "adapter_sha256": hashlib.sha256(adapter).hexdigest() if adapter else None,
        "steps": summary.steps,
        "train_seconds": summary.seconds,
        "tokens_per_s": summary.tokens / summary.seconds if summary.seconds else None,
        "peak_memory_bytes": summary.peak_memory_bytes or None,
        "train_loss_first": summary.first_loss,
        "train_loss_last": summary.last_loss,
        "val_loss_start": summary.first_evaluation["val_loss"],
        **_loss_scores(mean_loss(trained.losses)),
        "rouge_l": _rouge_l(predictions, answered),
        **trained.examples.counts,
        "language_loss": _language_loss(predictions),
        **trained.choice.as_result(),
    }


def _loss_scores(val_loss: float) -> dict[str, float]:
    return {"val_loss": val_loss, "val_ppl": math.exp(min(val_loss, 700.0))}


def _instruction(record: Record) -> Instruction:
    return Instruction(str(record.id), record.instruction, record.input, record.output)


def _language_loss(predictions: Sequence[dict[str, Any]]) -> float | None:
    losses = [(p["loss"], p["labels"]) for p in predictions if p["set"] == language_loss.SET]
    return mean_loss(losses) if losses else None


def _rouge_l(predictions: Sequence[dict[str, Any]], records: Sequence[Record]) -> float | None:
    references = {str(record.id): record.output for record in records}
    answered = [p for p in predictions if p["set"] == "alpaca"]
    if not answered:
        return None
    score = load_metric("rouge_l").compute(
        predictions=[p["output"] for p in answered],
        references=[references[p["id"]] for p in answered],
    )
    return None if score is None else float(score["rouge_l"])
