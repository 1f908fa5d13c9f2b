"""A tiny LLaMA in the hub's format and a small Alpaca file: a whole run in seconds."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import LlamaConfig, LlamaForCausalLM

from experiments.alpaca_llama import plan
from experiments.alpaca_llama.data import Record
from experiments.harness.spec import RunSpec
from tests.language.tokenizers_by_hand import byte_level

QUICK = {
    "num_layers": 2,
    "prompt_length": 3,
    "batch_size": 8,
    "epochs": 1.0,
    "warmup_epochs": 0.2,
    "peak_lr": 0.01,
    "token_budget": 1024,
    "evaluations": 2,
    "new_tokens": 4,
    "answered": 2,
    "user_oriented": False,
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
}


def write_weights(folder: Path, seed: int = 0) -> None:
    """A three-layer LLaMA with grouped queries, and a byte-level tokenizer."""
    tokenizer = byte_level(None)
    torch.manual_seed(seed)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=len(tokenizer),
            hidden_size=32,
            intermediate_size=48,
            num_hidden_layers=3,
            num_attention_heads=4,
            num_key_value_heads=2,
            eos_token_id=tokenizer.eos_token_id,
            pad_token_id=None,
            bos_token_id=None,
            initializer_range=0.15,  # large enough for every part of it to matter
        )
    )
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


def write_alpaca(folder: Path) -> None:
    """Records of our own in the official format; the split falls as it does for the real ones."""
    wanted = {"train": 48, "validation": 6, "development": 2}
    rows = []
    for i in range(1000):
        row = {
            "instruction": f"Say how many legs {i} spiders have.",
            "input": "They are whole." if i % 3 == 0 else "",
            "output": f"{i} spiders have {8 * i} legs" + " altogether" * (i % 4) + ".",
        }
        split = Record(i, **row).split
        if wanted[split]:
            wanted[split] -= 1
            rows.append(row)
    folder.mkdir(parents=True)
    (folder / "alpaca_data.json").write_text(json.dumps(rows))


def prepare(root: Path, patch: pytest.MonkeyPatch) -> None:
    """Point the environment at a world in `root`."""
    write_weights(root / "weights" / "smollm2-135m-instruct")
    write_alpaca(root / "data" / "alpaca")
    patch.setenv("ZIA_WEIGHTS", str(root / "weights"))
    patch.setenv("ZIA_DATA", str(root / "data"))
    patch.setattr("datasets.config.HF_DATASETS_CACHE", root / "cache")


def spec(method: str, **changes: object) -> RunSpec:
    """A run of the tiny world."""
    own = QUICK | plan.METHODS[method] | changes
    if method != "frozen" and "peak_lr" not in changes:
        own["peak_lr"] = QUICK["peak_lr"]
    base = next(s for s in plan.plan("small", "cpu") if s.method == method)
    settings = replace(type(base.settings)(), **own)
    return replace(base, backbone="smollm2-135m-instruct", data="full", settings=settings)
