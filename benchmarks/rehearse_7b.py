"""One optimiser step of the paper's recipe at LLaMA-7B's shape, on a CPU.

    python -m benchmarks.rehearse_7b --out FILE.json     # 13.5 GB of weights; 18 GB free

Weights are random bfloat16, and the step has one short micro-batch. It shows that the model loads,
trains and saves at its real size where there is no GPU; speed on a CPU says nothing about a GPU's.
"""

import pathlib
import resource
import sys
import time
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import nn

from benchmarks import command
from benchmarks.lengths import Lengths
from benchmarks.llama7b import Mode, Records, Times
from benchmarks.llama7b import Shape as LlamaShape
from benchmarks.measure import part, record
from benchmarks.models import random_llama
from zia_core import ZeroInitConfig, attach
from zia_core.baselines import tuned_parameters
from zia_core.engine import TrainSettings, train
from zia_core.errors import ZiaError
from zia_core.identity import backbone_identity
from zia_core.trained_weights import pack_trained

ROUNDS = 1
STEP = "a step"
SPARE_BYTES = 4e9  # beside the weights: activations, libraries
STD = 0.02  # of the weights, LLaMA's own initialisation


@dataclass(frozen=True)
class Shape(LlamaShape):
    """The paper's model, and the micro-batch: records, tokens of each, labels of each."""

    device: str = "cpu"
    batch: int = 2
    tokens: int = 32
    labels: int = 16


def measure(shape: Shape, rounds: int) -> dict[str, Any]:
    """Build, attach, train for `rounds` steps, and pack the adapter."""
    _refuse_too_little_memory(shape)
    started = time.perf_counter()
    backbone = filled(shape)
    identity = backbone_identity(backbone)
    model = attach(backbone, ZeroInitConfig(shape.prompt_length, shape.adapted_layers))
    built = time.perf_counter() - started
    of = Lengths([shape.tokens] * shape.batch, [shape.labels] * shape.batch)
    journal = Times()
    settings = TrainSettings(
        total_steps=rounds,
        batch_size=shape.batch,
        peak_lr=9e-3 * 64 / 256,
        warmup_steps=0,
        weight_decay=0.02,
        precision="bf16" if shape.dtype == "bfloat16" else "fp32",
        micro_batch_size=shape.batch,
        eval_every=0,
        checkpoint_every=0,
        seed=0,
        device=shape.device,
    )
    summary = train(model, Records(of, shape.vocabulary, Mode({})), settings, journal)
    if summary.last_loss is None:
        raise ZiaError("the step has no loss")
    figures = {
        "loss": summary.last_loss,
        "trained parameters": tuned_parameters(model),
        "weights, bytes": sum(p.nbytes for p in model.parameters() if not p.requires_grad),
        "adapter, bytes": len(pack_trained(model, "zero-init", identity)),
        "peak of the process, bytes": peak_bytes(),
        "building, s": built,
    }
    seconds = {STEP: [step["seconds"] for step in journal.steps]}
    return record("rehearse_7b", shape, {"a step": part(seconds, STEP, figures={STEP: figures})})


def filled(shape: Shape) -> nn.Module:
    """A LLaMA with random weights, in no more memory than they take: one tensor is made at a time.

    Buffers, the frequencies of rotary embeddings, are those of a model of one layer.
    """
    model: nn.Module = random_llama(replace(shape, device="meta"))
    small: nn.Module = random_llama(replace(shape, layers=1, adapted_layers=1, device="cpu",
                                            mlp=8, vocabulary=8))  # fmt: skip
    buffers = dict(small.named_buffers())
    generator = torch.Generator().manual_seed(0)
    for name, module in model.named_modules():
        for own, weight in list(module.named_parameters(recurse=False)):
            made = torch.empty(weight.shape, dtype=weight.dtype)
            if made.ndim == 1:  # norms
                made.fill_(1.0)
            else:
                made.normal_(std=STD, generator=generator)
            setattr(module, own, nn.Parameter(made, requires_grad=False))
        for own, _ in list(module.named_buffers(recurse=False)):
            module.register_buffer(own, buffers[f"{name}.{own}"], persistent=False)
    return model


def peak_bytes() -> int:
    """The largest resident set of this process so far."""
    unit = 1 if sys.platform == "darwin" else 1024
    return unit * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def _refuse_too_little_memory(shape: Shape) -> None:
    weights = sum(p.nbytes for p in random_llama(replace(shape, device="meta")).parameters())
    there = available_bytes()
    if weights > 1e9 and there is not None and there < weights + SPARE_BYTES:
        raise ZiaError(
            f"{(weights + SPARE_BYTES) / 1e9:.1f} GB of memory are needed, and "
            f"{there / 1e9:.1f} GB are free: end other programs, or use another machine"
        )


def available_bytes() -> int | None:
    """The memory that is free or can be made free; None where the system does not say."""
    try:
        with pathlib.Path("/proc/meminfo").open(encoding="ascii") as file:
            kilobytes = next(line.split()[1] for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return None
    return 1024 * int(kilobytes)


if __name__ == "__main__":
    command.main("rehearse_7b")
