"""A training step of a whole model: zero-init attention against its competitors.

    python -m benchmarks.train_step --out FILE.json

The floor is the frozen backbone with the backward pass that any method with prompts in the same
layers needs: it trains a zero vector added in the attention of the lowest adapted layer.
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
    """The same random backbone prepared for each method, with open gates."""
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
    """A LLaMA with a backward pass down to its lowest adapted layer."""
    return Floor(model, model.model.layers[-adapted_layers].self_attn.o_proj)


def batch_of(shape: Shape) -> dict[str, Tensor]:
    """Random tokens, the last third with labels, as in Alpaca's records."""
    ids = torch.randint(0, shape.vocabulary, (shape.batch, shape.tokens), device=shape.device)
    labels = ids.clone()
    labels[:, : shape.tokens * 2 // 3] = -100
    return {"input_ids": ids, "labels": labels, "label_index": label_index(labels)}


def step(model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], None]:
    """An optimiser step as a call."""
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
    """Time the steps of all contestants, and measure their memory beside the model's weights."""
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
    """Trained parameters, and bytes saved for the backward pass, without weights."""
    weights = [*model.parameters(), *model.buffers()]
    kept = bytes_kept_for_backward(lambda: _loss(model, batch), beside=weights)
    return {
        "trained parameters": baselines.tuned_parameters(model),
        "kept for backward, bytes": kept,
    }


def _peak(call: Callable[[], None]) -> int:
    """Peak bytes of a step, without the optimiser's state, which persists between steps."""
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    call()
    return torch.cuda.max_memory_allocated() - before


if __name__ == "__main__":
    command.main("train_step")
