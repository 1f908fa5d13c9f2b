"""One run: load, train, evaluate, write down."""

import hashlib
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama import language, methods, plan
from experiments.alpaca_llama.data import Record, fingerprint, load_alpaca
from experiments.alpaca_llama.evaluate import answers, label_losses, mean_loss
from experiments.alpaca_llama.features import InstructionDataset, tokenised
from experiments.alpaca_llama.instructions import Instruction, load_user_oriented, own_instructions
from experiments.alpaca_llama.settings import Settings
from experiments.alpaca_llama.subsets import select
from experiments.alpaca_llama.vicuna import answer_records, load_questions
from experiments.alpaca_llama.vicuna import fingerprint as fingerprint_questions
from experiments.backbones import language_models
from experiments.harness import stored
from experiments.harness.experiment import Answer, NeedsData
from experiments.harness.folder import RunFolder
from experiments.harness.spec import RunSpec
from experiments.io.files import canonical_json
from experiments.metrics import load_metric
from experiments.mini_world.provided import PROFILE as MINI
from experiments.training.optimisation import bucket, train_settings
from experiments.training.prompt_share import first_alone, write_prompt_share
from experiments.training.selection import chosen_rate
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor, nn

RESULT_FIELDS: dict[str, Any] = {
    "tuned_parameters": int,
    "adapter_bytes": int,
    "adapter_sha256": str | None,
    "steps": int,
    "train_seconds": float,  # optimiser steps alone
    "tokens_per_s": float | None,  # of training, without padding; None where nothing is trained
    "peak_memory_bytes": int | None,  # of training
    "train_loss_first": float | None,
    "train_loss_last": float | None,
    "val_loss_start": float,  # nats per response token
    "val_loss": float,
    "val_ppl": float,
    "rouge_l": float | None,  # greedy answers to validation records, in [0, 1]
    "truncated": int,  # training examples cut at max_length
    # Runs from now on also have what `selection.Choice` says of their rate, and `language_loss`,
    # nats per token of text that is no instruction (see `language`), None where there is no text.
}


@dataclass
class AlpacaTask:
    """Training examples and validation loss, as the engine asks for them."""

    train: InstructionDataset
    validation: InstructionDataset
    eval_tokens: int
    chunk: int | None = None  # labels with logits at a time
    losses: list[tuple[float, int]] | None = None  # of the last evaluation, by validation record

    def __len__(self) -> int:
        return len(self.train)

    def length(self, index: int) -> int:
        """Tokens of an example."""
        return self.train.length(index)

    def labels(self, index: int) -> int:
        """Response tokens of an example."""
        return self.train.labels(index)

    def record_id(self, index: int) -> str:
        """The row of an example in Alpaca's file."""
        return self.train.record_id(index)

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Input ids, mask and labels, [B, T] each."""
        return self.train.batch(indices)

    def loss(self, model: "nn.Module", batch: dict[str, "Tensor"]) -> tuple["Tensor", int]:
        """Sum of the cross entropies of the response tokens, and their number."""
        from zia_core.losses import causal_lm_loss

        return causal_lm_loss(model, **batch, chunk=self.chunk)

    def evaluate(self, model: "nn.Module") -> dict[str, float]:
        """Loss per response token of the validation records."""
        self.losses = label_losses(model, self.validation, self.eval_tokens, self.chunk)
        return {"val_loss": mean_loss(self.losses)}


def run(spec: RunSpec, folder: RunFolder) -> None:
    """Do the run, or what is left of it."""
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.baselines import tuned_parameters
    from zia_core.engine import Interrupted, train
    from zia_core.rng import derived_seed
    from zia_core.trained_weights import pack_trained

    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    records = load_alpaca()
    splits = select(records, spec.data)
    held_out = splits.validation if settings.validate_on == "validation" else splits.development
    user_oriented = load_user_oriented() if settings.user_oriented else []
    questions = load_questions() if settings.vicuna else []
    model, tokenizer, weights = _backbone(spec)
    data = {"alpaca": fingerprint(records)}
    if questions:
        data["vicuna80"] = fingerprint_questions(questions)
    tried = settings.phase == "select"  # nobody asks for more than the validation loss of a trial
    other = language.held_out_texts(spec.profile)
    # Not among the fingerprints: what a run is measured on besides does not make it another one.
    folder.write_environment({"data": data, "weights": weights, "language": other.about})
    choice = chosen_rate(spec, folder, RESULT_FIELDS, plan.requires)
    task = AlpacaTask(
        tokenised(splits.train, tokenizer, settings.max_length),
        tokenised(held_out, tokenizer, settings.max_length),
        settings.eval_tokens,
        settings.loss_chunk,
    )
    task.train.multiple = bucket(settings)
    identity = backbone_identity(model)
    torch.manual_seed(derived_seed(spec.seed, "parameters"))
    model = methods.prepare(model, spec.method, settings)
    optimisation = replace(settings, peak_lr=choice.peak_lr)
    summary = train(model, task, train_settings(optimisation, spec.seed, len(task)), folder)

    model.eval()
    adapter = b"" if tried else pack_trained(model, spec.method, identity)
    if adapter:
        with folder.writing(stored.ADAPTER) as path:
            path.write_bytes(adapter)
    if not tried:
        write_prompt_share(
            folder, model, "validation records", first_alone(task.validation), task.loss
        )
    # None: all steps were done before this attempt, their last evaluation included.
    losses = task.losses or label_losses(
        model, task.validation, settings.eval_tokens, settings.loss_chunk
    )
    predictions = [
        {"set": "validation", "id": task.validation.record_id(i), "loss": loss, "labels": labels}
        for i, (loss, labels) in enumerate(losses)
    ]
    if other.texts and not tried:
        predictions += language.language_losses(
            model, tokenizer, other.texts, settings.eval_tokens, settings.loss_chunk
        )
    answered = held_out[: settings.answered]
    # In `mini`, the records that are answered hold its own instructions.
    nine = [] if tried or spec.profile == MINI else own_instructions(spec.profile)
    asked = [("nine", each) for each in nine]
    asked += [("user-oriented", each) for each in user_oriented]
    asked += [("alpaca", _instruction(record)) for record in answered]
    for decoding in ("greedy", "sampled"):
        if reason := folder.stop_requested():  # answers take minutes; training is checkpointed
            raise Interrupted(reason, summary.steps)
        # Records are answered in the deterministic way only: they are there for ROUGE-L.
        chosen = [each for each in asked if decoding == "greedy" or each[0] != "alpaca"]
        texts = answers(
            model, tokenizer, [each for _, each in chosen], decoding, settings.new_tokens, spec.seed
        )
        predictions += [
            {"set": name, "id": each.id, "decoding": decoding, "output": text}
            for (name, each), text in zip(chosen, texts, strict=True)
        ]
    if questions:
        if reason := folder.stop_requested():
            raise Interrupted(reason, summary.steps)
        texts = answers(model, tokenizer, questions, "greedy", settings.new_tokens)
        with folder.writing(stored.ANSWERS) as path:
            lines = map(canonical_json, answer_records(spec, questions, texts))
            path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    folder.write_predictions(predictions)
    val_loss = mean_loss(losses)
    folder.write_result(
        {
            "tuned_parameters": tuned_parameters(model),
            "adapter_bytes": len(adapter),
            "adapter_sha256": hashlib.sha256(adapter).hexdigest() if adapter else None,
            "steps": summary.steps,
            "train_seconds": summary.seconds,
            "tokens_per_s": summary.tokens / summary.seconds if summary.seconds else None,
            "peak_memory_bytes": summary.peak_memory_bytes or None,
            "train_loss_first": summary.first_loss,
            "train_loss_last": summary.last_loss,
            "val_loss_start": summary.first_evaluation["val_loss"],
            "val_loss": val_loss,
            "val_ppl": math.exp(min(val_loss, 700.0)),
            "rouge_l": _rouge_l(predictions, {str(record.id): record for record in answered}),
            "truncated": task.train.truncated,
            "language_loss": _language_loss(predictions),
        }
        | choice.as_result()
    )


def rescore(path: Path) -> dict[str, float]:
    """Recompute from the predictions what follows from them; ROUGE-L needs Alpaca's file beside."""
    run = stored.load(path)
    predictions = run.predictions(
        {"id": str, "set": str, "loss": float, "labels": int, "output": str, "decoding": str}
    )
    losses = [(p["loss"], p["labels"]) for p in predictions if p["set"] == "validation"]
    val_loss = mean_loss(losses)
    scores = {"val_loss": val_loss, "val_ppl": math.exp(min(val_loss, 700.0))}
    if (language_loss := _language_loss(predictions)) is not None:
        scores["language_loss"] = language_loss
    if run.result["rouge_l"] is None:
        return scores
    try:
        records = load_alpaca()
    except ZiaError as error:
        raise NeedsData(f"rouge_l: {error}") from error
    rouge_l = _rouge_l(predictions, {str(record.id): record for record in records})
    return scores if rouge_l is None else scores | {"rouge_l": rouge_l}


def generate(path: Path, prompts: Sequence[str], device: str) -> Iterator[Answer]:
    """Answer instructions with and without the adapter of a finished run."""
    import torch

    from zia_core.adapters import backbone_identity
    from zia_core.trained_weights import load_trained

    run = stored.with_adapter(path)
    spec = RunSpec.from_json(run.config, Settings)
    settings: Settings = spec.settings
    if settings.device == "cpu":
        torch.set_num_threads(settings.threads)
    asked = [Instruction(str(i), text) for i, text in enumerate(prompts)]
    asked = asked or own_instructions(spec.profile)
    model, tokenizer, _ = _backbone(spec, device)
    plain = list(answers(model, tokenizer, asked, "greedy", settings.new_tokens))
    identity = backbone_identity(model)
    model = methods.prepare(model, spec.method, settings).eval()
    load_trained(model, path / stored.ADAPTER, identity)
    adapted = answers(model, tokenizer, asked, "greedy", settings.new_tokens)
    for each, before, after in zip(asked, plain, adapted, strict=True):
        prompt = f"{each.instruction}\n{each.input}" if each.input else each.instruction
        yield Answer(prompt, before, after)


def _backbone(spec: RunSpec, device: str | None = None) -> Any:
    import torch

    settings: Settings = spec.settings
    dtype = torch.bfloat16 if settings.precision == "bf16" else torch.float32
    return language_models.load(
        language_models.get(spec.backbone), dtype, device or settings.device
    )


def _instruction(record: Record) -> Instruction:
    return Instruction(str(record.id), record.instruction, record.input, record.output)


def _language_loss(predictions: Sequence[dict[str, Any]]) -> float | None:
    losses = [(p["loss"], p["labels"]) for p in predictions if p["set"] == language.SET]
    return mean_loss(losses) if losses else None


def _rouge_l(predictions: Sequence[dict[str, Any]], records: dict[str, Record]) -> float | None:
    answered = [p for p in predictions if p["set"] == "alpaca"]
    if not answered:
        return None
    score = load_metric("rouge_l").compute(
        predictions=[p["output"] for p in answered],
        references=[records[p["id"]].output for p in answered],
    )
    return None if score is None else float(score["rouge_l"])
