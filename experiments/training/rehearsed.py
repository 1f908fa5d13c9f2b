"""Shorten a run to two optimiser steps, for rehearsals."""

from dataclasses import replace
from typing import Any

from experiments.training.optimisation import Optimisation
from experiments.training.selection import shortened

STEPS = 2  # one before the stop, one after it
# On a CPU: VTAB's steps of 64 images would take half of a rehearsal's time.
CPU_BATCH, CPU_TOKENS = 8, 1024


def two_steps(settings: Optimisation, examples: int) -> dict[str, Any]:
    """Return the settings of a schedule of two steps, on so many training examples.

    What does not fill a batch is left out, as in the engine. On a CPU batches are small, and so
    are the parts that they are divided into. A run that trains nothing goes on training nothing.
    """
    if not settings.epochs:
        return {}
    smaller = _smaller(settings) if settings.device == "cpu" else {}
    settings = replace(settings, **smaller)
    epochs = STEPS / (examples // settings.batch_size)
    evaluations = min(settings.evaluations, 1)
    return {"evaluations": evaluations, **smaller, **shortened(settings, epochs)}


def _smaller(settings: Optimisation) -> dict[str, Any]:
    batch, micro, tokens = settings.batch_size, settings.micro_batch_size, settings.token_budget
    if micro is not None:
        micro = min(micro, CPU_BATCH if micro >= batch else CPU_BATCH // 2)
    if tokens is not None:
        tokens = min(tokens, CPU_TOKENS)
    return {
        "batch_size": min(batch, CPU_BATCH), "micro_batch_size": micro, "token_budget": tokens
    }  # fmt: skip
