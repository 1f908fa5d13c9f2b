"""A training step of a whole model: zero-init attention against what it competes with.

    python -m benchmarks.train_step --out FILE.json

The floor is the frozen backbone with the backward pass that any method with parameters in the same
layers needs: a zero vector that is added to the input of the lowest adapted layer is trained.
"""

import argparse
import copy
import json
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.measure import interleaved, ratios, table
from experiments.harness.files import write_json_atomic
from experiments.harness.provenance import environment
from zia_core import ZeroInitConfig, attach, baselines
from zia_core.losses import causal_lm_loss

BASE = "floor"


@dataclass(frozen=True)
class Shape:
    """A LLaMA-architecture model and a batch of full sequences."""

    width: int = 768
    layers: int = 8
    heads: int = 12
    kv_heads: int = 4
    mlp: int = 2048
    vocabulary: int = 8192
    batch: int = 2
    tokens: int = 256
    prompt_length: int = 10
    adapted_layers: int = 8
    dtype: str = "float32"
    device: str = "cpu"


class Floor(nn.Module):
    """A backbone whose lowest adapted layer gets a trained shift of its input."""

    def __init__(self, model: Any, adapted_layers: int) -> None:
        super().__init__()
        self.model = model.requires_grad_(False)
        self.shift = nn.Parameter(torch.zeros(model.config.hidden_size))
        lowest = model.model.layers[-adapted_layers]
        lowest.register_forward_pre_hook(self._add, with_kwargs=True)

    def _add(self, layer: nn.Module, args: Any, kwargs: Any) -> tuple[Any, Any]:
        return (args[0] + self.shift.to(args[0].dtype), *args[1:]), kwargs

    def get_base_model(self) -> nn.Module:
        """What `causal_lm_loss` runs."""
        return self.model


def contestants(shape: Shape) -> dict[str, nn.Module]:
    """The same random backbone, made ready for each method."""
    from transformers import LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    base: Any = LlamaForCausalLM(
        LlamaConfig(
            vocab_size=shape.vocabulary,
            hidden_size=shape.width,
            intermediate_size=shape.mlp,
            num_hidden_layers=shape.layers,
            num_attention_heads=shape.heads,
            num_key_value_heads=shape.kv_heads,
        )
    )
    base.to(shape.device, getattr(torch, shape.dtype))
    K, L = shape.prompt_length, shape.adapted_layers
    return {
        BASE: Floor(copy.deepcopy(base), L).to(shape.device),
        "zero-init": attach(copy.deepcopy(base), ZeroInitConfig(K, L)),
        "AdaptionPrompt (PEFT)": baselines.adaption_prompt(copy.deepcopy(base), K, L),
        "LoRA r=8 (PEFT)": baselines.lora(copy.deepcopy(base), dropout=0.0),
        "full": baselines.full(base),
    }


def step(model: nn.Module, batch: dict[str, Tensor]) -> Callable[[], None]:
    """One optimiser step as a call."""
    parameters = [p for p in model.parameters() if p.requires_grad]
    optimizer = torch.optim.AdamW(parameters, lr=1e-4)
    synchronize = torch.cuda.synchronize if batch["input_ids"].is_cuda else lambda: None

    def call() -> None:
        loss, labels = causal_lm_loss(model, batch["input_ids"], None, batch["labels"])
        (loss / labels).backward()
        optimizer.step()
        optimizer.zero_grad()
        synchronize()

    return call


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """All repetitions, their ratios, and where they were measured."""
    ids = torch.randint(0, shape.vocabulary, (shape.batch, shape.tokens), device=shape.device)
    labels = ids.clone()
    labels[:, : shape.tokens * 2 // 3] = -100  # Alpaca has labels on about a third of its tokens
    batch = {"input_ids": ids, "labels": labels}
    models = {name: model.train() for name, model in contestants(shape).items()}
    seconds = interleaved({name: step(model, batch) for name, model in models.items()}, rounds)
    return {
        "benchmark": "train_step",
        "shape": asdict(shape),
        "base": BASE,
        "trainable": {name: baselines.tuned_parameters(model) for name, model in models.items()},
        "seconds": seconds,
        "ratios": ratios(seconds, BASE),
        "environment": {k: v for k, v in environment(with_torch=True).items() if k != "host"},
    }


def main() -> None:
    """Measure, print the table, and write the JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, help="JSON file for the result")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, help="of torch, on the CPU")
    parser.add_argument("--shape", type=json.loads, default={}, help='JSON, {"width": 4096} say')
    arguments = parser.parse_args()
    if arguments.threads:
        torch.set_num_threads(arguments.threads)
    result = measure(Shape(**arguments.shape), arguments.rounds)
    print(table(result), end="")
    if arguments.out:
        write_json_atomic(arguments.out, result)


if __name__ == "__main__":
    main()
