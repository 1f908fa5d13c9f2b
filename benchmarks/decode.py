"""Tokens per second of batched generation with a cache.

    python -m benchmarks.decode --out FILE.json

Each step reads all weights for a few tokens, so recomputation for the prompts shows most here.
"""

import copy
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from benchmarks import command
from benchmarks.measure import interleaved, part, record, synchronizer
from benchmarks.models import LlamaShape, open_gates, random_llama
from zia_core import ZeroInitConfig, attach, baselines

ROUNDS = 9
BASE = "backbone"


@dataclass(frozen=True)
class Shape(LlamaShape):
    """A model, and sequences of equal length to continue."""

    batch: int = 8
    tokens: int = 64
    new_tokens: int = 32


def contestants(shape: Shape) -> dict[str, Any]:
    """The backbone, and both forms of zero-init attention on it, with open gates."""
    base = random_llama(shape)
    # A random model may emit the end token: no sequence must end early.
    base.generation_config.eos_token_id = None
    K, L = shape.prompt_length, shape.adapted_layers
    models = {
        BASE: base,
        "zero-init": attach(copy.deepcopy(base), ZeroInitConfig(K, L)),
        "AdaptionPrompt (PEFT)": baselines.adaption_prompt(copy.deepcopy(base), K, L),
    }
    open_gates(models["zero-init"], models["AdaptionPrompt (PEFT)"])
    return {name: model.eval() for name, model in models.items()}


def generate(model: Any, shape: Shape) -> Tensor:
    """Continue random texts greedily: [batch, tokens + new_tokens]."""
    drawn = torch.Generator().manual_seed(0)
    ids = torch.randint(0, shape.vocabulary, (shape.batch, shape.tokens), generator=drawn)
    ids = ids.to(shape.device)
    return model.generate(
        input_ids=ids,
        attention_mask=torch.ones_like(ids),
        max_new_tokens=shape.new_tokens,
        do_sample=False,
        pad_token_id=0,
    )


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Time whole generations, including the first pass over the given tokens."""
    done = synchronizer(shape.device)

    def call(model: Any) -> Callable[[], None]:
        def run() -> None:
            generate(model, shape)
            done()

        return run

    seconds = interleaved({name: call(model) for name, model in contestants(shape).items()}, rounds)
    work = {"tokens": shape.batch * shape.new_tokens}
    return record("decode", shape, {"generation": part(seconds, BASE, work=work)})


if __name__ == "__main__":
    command.main("decode")
