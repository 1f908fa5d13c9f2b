"""A training step of a whole model: zero-init attention against what it competes with.

    python -m benchmarks.train_step --out FILE.json

The floor is the frozen backbone with the backward pass that any method with prompts in the same
layers needs: a zero vector that is added in the lowest adapted layer's attention is trained.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks import command
from benchmarks.measure import interleaved, part, record, synchronizer
from benchmarks.models import Floor, LlamaShape, open_gates, random_llama
from zia_core import ZeroInitConfig, attach, baselines
from zia_core.losses import causal_lm_loss, label_index
from zia_core.memory import bytes_kept_for_backward

ROUNDS = 15
BASE = "floor"


@dataclass(frozen=True)
class Shape(LlamaShape):
    """A model and a batch of full sequences."""

    batch: int = 2
    tokens: int = 256


def contestants(shape: Shape) -> dict[str, nn.Module]:
    """The same random backbone, made ready for each method; gates are open."""
    base = random_llama(shape)
    K, L = shape.prompt_length, shape.adapted_layers
    models: dict[str, Any] = {
        BASE: floor(copy.deepcopy(base), L),
        "zero-init": attach(copy.deepcopy(base), ZeroInitConfig(K, L)),
        "AdaptionPrompt (PEFT)": baselines.adaption_prompt(copy.deepcopy(base), K, L),
        "LoRA r=8 (PEFT)": baselines.lora(copy.deepcopy(base), dropout=0.0),
        "full": baselines.full(base),
    }
    open_gates(models["zero-init"], models["AdaptionPrompt (PEFT)"])
    return {name: model.train() for name, model in models.items()}


def floor(model: Any, adapted_layers: int) -> Floor:
    """A LLaMA that is trained down to its lowest adapted layer."""
    return Floor(model, model.model.layers[-adapted_layers].self_attn.o_proj)


def batch_of(shape: Shape) -> dict[str, Tensor]:
    """Random tokens, of which the last third have labels, as many as in Alpaca's records."""
    ids = torch.randint(0, shape.vocabulary, (shape.batch, shape.tokens), device=shape.device)
    labels = ids.clone()
    labels[:, : shape.tokens * 2 // 3] = -100
    return {"input_ids": ids, "labels": labels, "label_index": label_index(labels)}


def step(model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], None]:
    """One optimiser step as a call."""
    device = batch["input_ids"].device.type
    trained = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(trained, lr=1e-4, fused=device == "cuda" or None)
    done = synchronizer(device)

    def call() -> None:
        _loss(model, batch).backward()
        optimizer.step()
        optimizer.zero_grad()
        done()

    return call


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Steps of every contestant, and what they keep and need beside the model's weights."""
    batch = batch_of(shape)
    models = contestants(shape)
    calls = {name: step(model, batch) for name, model in models.items()}
    figures = {name: counts(model, batch) for name, model in models.items()}
    seconds = interleaved(calls, rounds)
    if shape.device != "cpu":
        for name, call in calls.items():
            figures[name]["peak beside the weights, bytes"] = _peak(call)
    work = {"tokens": shape.batch * shape.tokens}
    return record("train_step", shape, {"step": part(seconds, BASE, figures=figures, work=work)})


def _loss(model: nn.Module, batch: dict[str, Tensor]) -> Tensor:
    loss, labels = causal_lm_loss(
        model, batch["input_ids"], None, batch["labels"], batch["label_index"]
    )
    return loss / labels


def counts(model: nn.Module, batch: dict[str, Tensor]) -> dict[str, float]:
    """Trained parameters, and bytes kept for the backward pass beside the weights."""
    weights = [*model.parameters(), *model.buffers()]
    kept = bytes_kept_for_backward(lambda: _loss(model, batch), beside=weights)
    return {
        "trained parameters": baselines.tuned_parameters(model),
        "kept for backward, bytes": kept,
    }


def _peak(call: Callable[[], None]) -> int:
    """Bytes of a step, its optimiser's state left out: that lies there between steps too."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    command.main("train_step")
