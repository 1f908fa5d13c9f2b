"""A tiny random LLaMA, a task of random tokens and a folder journal, for the engine's tests."""

import json
import random
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from transformers import LlamaConfig, LlamaForCausalLM

from zia_core.checkpoint import read_checkpoint, write_checkpoint
from zia_core.engine import TrainSettings
from zia_core.losses import IGNORED, causal_lm_loss

VOCABULARY = 64


def toy_model(hidden_size: int = 16, layers: int = 2) -> LlamaForCausalLM:
    """A few layers with dropout, frozen except for query projections, norms and head."""
    torch.manual_seed(7)
    model = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=VOCABULARY,
            hidden_size=hidden_size,
            intermediate_size=24,
            num_hidden_layers=layers,
            num_attention_heads=2,
            attention_dropout=0.1,
        )
    )
    for name, parameter in model.named_parameters():
        parameter.requires_grad_(any(part in name for part in ("q_proj", "norm", "lm_head")))
    return model


def without_dropout(model: LlamaForCausalLM) -> LlamaForCausalLM:
    for layer in model.model.layers:
        layer.self_attn.attention_dropout = 0.0
    return model


def trained(model: nn.Module) -> dict[str, Tensor]:
    return {n: p.detach().clone() for n, p in model.named_parameters() if p.requires_grad}


class ToyTask:
    """Records of 4 to 40 random tokens, with labels on the last third."""

    def __init__(self, n: int = 22) -> None:
        numbers = random.Random(3)
        lengths = [numbers.randint(4, 40) for _ in range(n)]
        self.tokens = [[numbers.randrange(1, VOCABULARY - 1) for _ in range(k)] for k in lengths]

    def __len__(self) -> int:
        return len(self.tokens)

    def length(self, index: int) -> int:
        return len(self.tokens[index])

    def labels(self, index: int) -> int:
        return len(self.tokens[index]) // 3

    def record_id(self, index: int) -> str:
        return f"toy-{index}"

    def batch(self, indices: Sequence[int]) -> dict[str, Tensor]:
        shape = (len(indices), max(self.length(index) for index in indices))
        input_ids = torch.zeros(shape, dtype=torch.long)
        attention_mask, labels = torch.zeros_like(input_ids), torch.full_like(input_ids, IGNORED)
        for row, index in enumerate(indices):
            length, n = self.length(index), self.labels(index)
            input_ids[row, :length] = torch.tensor(self.tokens[index])
            attention_mask[row, :length] = 1
            labels[row, length - n : length] = input_ids[row, length - n : length]
        return {"input_ids": input_ids, "attention_mask": attention_mask, "labels": labels}

    def loss(self, model: nn.Module, batch: dict[str, Tensor]) -> tuple[Tensor, int]:
        return causal_lm_loss(model, **batch)

    def evaluate(self, model: nn.Module) -> dict[str, float]:
        # Draw from every generator, as an evaluation with sampling does.
        drawn = random.random() + np.random.random() + torch.rand(()).item()
        total, labels = self.loss(model, self.batch(range(4)))
        return {"val_loss": total.item() / labels, "drawn": drawn}


def toy_settings(**changes: Any) -> TrainSettings:
    settings: dict[str, Any] = {
        "total_steps": 8,
        "batch_size": 5,
        "peak_lr": 0.01,
        "warmup_steps": 2,
        "weight_decay": 0.02,
        "token_budget": 64,
        "eval_every": 2,
        "checkpoint_every": 3,
        "seed": 1,
        "device": "cpu",
    }
    return TrainSettings(**(settings | changes))


class FolderJournal:
    """metrics.jsonl, timing.jsonl and the last two checkpoints in a folder."""

    def __init__(self, folder: Path, stop_after: int | None = None) -> None:
        self.folder, self.stop_after = folder, stop_after
        self.last_step = 0
        self.shown: list[dict[str, Any]] = []
        folder.mkdir(parents=True, exist_ok=True)

    def append(self, name: str, record: dict[str, Any]) -> None:
        line = json.dumps(record, allow_nan=False) + "\n"
        with (self.folder / name).open("a") as file:
            for part in (line[:7], line[7:]):  # so that a kill can leave half a line
                file.write(part)
                file.flush()
                self.event()

    def event(self) -> None:
        """Called after every visible effect."""

    def metrics(self, record: dict[str, Any]) -> None:
        self.append("metrics.jsonl", record)
        self.last_step = record["step"]

    def timing(self, record: dict[str, Any]) -> None:
        self.append("timing.jsonl", record)

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], state: dict[str, Any]) -> None:
        write_checkpoint(self.folder / f"step-{step:08d}.safetensors", tensors, state)
        self.event()
        for old in self.checkpoints()[:-2]:
            old.unlink()

    def load_checkpoint(self) -> tuple[int, dict[str, Tensor], dict[str, Any]] | None:
        checkpoints = self.checkpoints()
        step = int(checkpoints[-1].stem.removeprefix("step-")) if checkpoints else -1
        for name in ("metrics.jsonl", "timing.jsonl"):
            path = self.folder / name
            lines = path.read_text().splitlines(keepends=True) if path.exists() else []
            whole = [line for line in lines if line.endswith("\n")]
            path.write_text("".join(line for line in whole if json.loads(line)["step"] <= step))
        return (step, *read_checkpoint(checkpoints[-1])) if checkpoints else None

    def stop_requested(self) -> str | None:
        return "asked to" if self.last_step == self.stop_after else None

    def progress(self, **fields: Any) -> None:
        self.shown.append(fields)

    def checkpoints(self) -> list[Path]:
        return sorted(self.folder.glob("step-*.safetensors"))

    def read(self, name: str = "metrics.jsonl") -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / name).read_text().splitlines()]

    def losses(self) -> list[float]:
        return [record["loss"] for record in self.read() if "loss" in record]

    def fingerprint(self) -> tuple[bytes, dict[str, bytes]]:
        """Everything that must not depend on interruptions: metrics and final tensors."""
        tensors, _ = read_checkpoint(self.checkpoints()[-1])
        contents = {name: tensor.numpy().tobytes() for name, tensor in tensors.items()}
        return (self.folder / "metrics.jsonl").read_bytes(), contents
