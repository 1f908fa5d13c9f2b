"""A tiny BERT and RoBERTa in the hub's format and a small SQuAD: a whole run in a second."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import BertConfig, BertModel, RobertaConfig, RobertaForMaskedLM

from experiments.harness.spec import RunSpec
from experiments.squad_roberta import plan
from experiments.squad_roberta.data import Question
from experiments.squad_roberta.settings import Settings
from tests.squad_roberta.tokenizers_by_hand import bert, roberta
from tests.squad_roberta.world import official, qa, write

BERT, ROBERTA = "minilm-l6", "distilroberta-base"
WIDTH, LAYERS, HEADS, PROMPTS = 32, 2, 4, 3
SHAPE: dict[str, Any] = {
    "hidden_size": WIDTH,
    "num_hidden_layers": LAYERS,
    "num_attention_heads": HEADS,
    "intermediate_size": 48,
    "max_position_embeddings": 160,
    "initializer_range": 0.15,  # large enough for every part of it to matter
}
QUICK: dict[str, Any] = {
    "prompt_length": PROMPTS,
    "peak_lr": 0.02,
    "batch_size": 8,
    "epochs": 2.0,
    "warmup_epochs": 0.4,
    "token_budget": 512,
    "eval_tokens": 512,
    "max_length": 96,
    "stride": 24,
    "max_question": 24,
    "device": "cpu",
    "precision": "fp32",
}


def write_bert(folder: Path, seed: int = 0, **changes: Any) -> None:
    """A bare encoder with a pooler and no head, as the package with MiniLM has it."""
    tokenizer = bert()
    torch.manual_seed(seed)
    BertModel(BertConfig(vocab_size=len(tokenizer), **SHAPE | changes)).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_roberta(folder: Path) -> None:
    """An encoder under its prefix beside another task's head, as the hub's RoBERTa."""
    tokenizer = roberta()
    torch.manual_seed(0)
    config = RobertaConfig(
        vocab_size=len(tokenizer), type_vocab_size=1, pad_token_id=tokenizer.pad_token_id, **SHAPE
    )
    RobertaForMaskedLM(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_squad(folder: Path, version: str, dev_answers: dict[str, str] | None = None) -> None:
    """Paragraphs of our own in the official format; the split falls as it does for the real ones.

    In v2.0 every third question has no answer. `dev_answers` are the dev set's, by question id.
    """
    wanted = {"train": 40, "validation": 8, "dev": 8}
    paragraphs: dict[str, list[Any]] = {"train": [], "dev": []}
    number = 0
    while any(wanted.values()):
        number += 1
        text = f"Hall {number} has {7 * number} chairs{' and a lamp' * (number % 5)}."
        part = Question("", "", text, ()).split if any(list(wanted.values())[:2]) else "dev"
        if not wanted[part]:
            continue
        wanted[part] -= 1
        answer = (dev_answers or {}).get(f"q{number}", f"{7 * number} chairs")
        unanswerable = (
            version == "2.0" and number % 3 == 0 and f"q{number}" not in (dev_answers or {})
        )
        fields = {"is_impossible": unanswerable} if version == "2.0" else {}
        asked = qa(f"q{number}", answer, None if unanswerable else text.index(answer), **fields)
        paragraphs["dev" if part == "dev" else "train"].append((text, [asked]))
    for part, found in paragraphs.items():
        write(folder, f"{part}-v{version}.json", official(version, *found))


def prepare(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Point the environment at a world in `root`."""
    write_bert(root / "weights" / BERT)
    write_roberta(root / "weights" / ROBERTA)
    (root / "data").mkdir()
    for version in ("1.1", "2.0"):
        write_squad(root / "data", version)
    patch.setenv("ZIA_WEIGHTS", str(root / "weights"))
    patch.setenv("ZIA_DATA", str(root / "data"))
    patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")


def spec(
    method: str, task: str = plan.V1, backbone: str = BERT, seed: int = 0, **changes: Any
) -> RunSpec:
    """A run of the tiny world."""
    return RunSpec(
        experiment=plan.NAME,
        version=plan.VERSION,
        task=task,
        method=method,
        backbone=backbone,
        data="full",
        profile="small",
        seed=seed,
        settings=replace(Settings(), **QUICK | changes),
    )
