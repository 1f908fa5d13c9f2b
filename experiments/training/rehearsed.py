"""Shorten a run to two optimiser steps, for rehearsals."""

from typing import Any

from experiments.training.optimisation import Optimisation
from experiments.training.selection import shortened

STEPS = 2  # one before the stop, one after it


def two_steps(settings: Optimisation, examples: int) -> dict[str, Any]:
    """Return the settings of a schedule of two steps, on so many training examples.

    Batches keep their size, and what does not fill one is left out, as in the engine. A run that
    trains nothing goes on training nothing.
    """
    if not settings.epochs:
        return {}
    epochs = STEPS / (examples // settings.batch_size)
    evaluations = min(settings.evaluations, 1)
    return {"evaluations": evaluations, **shortened(settings, epochs)}
