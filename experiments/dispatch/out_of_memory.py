"""Say which settings to change for a run that did not fit its GPU."""

import traceback
from collections.abc import Iterator
from typing import Any

from experiments.harness.spec import RunSpec

# Settings that bound what is in memory at a time, by functions that a traceback passes through.
WITHOUT_GRADIENT = {
    "evaluate": "eval_tokens",
    "example_losses": "eval_tokens",
    "generate": "answered_together",
}
OF_A_STEP = ("token_budget", "micro_batch_size")


def out_of_memory(spec: RunSpec, error: BaseException) -> str | None:
    """A sentence for torch's error that a GPU's memory is full; None for any other error."""
    import torch

    if not isinstance(error, torch.OutOfMemoryError):
        return None
    said = ".".join(str(error).partition("\n")[0].split(". ")[:2]).replace(".Tried", ", tried")
    advice = [*_advice(spec.settings, error), "use a larger GPU"]
    return f"{said.rstrip('.')}: {', or '.join(advice)} (a setting changed by --set is another run)"


def _advice(settings: Any, error: BaseException) -> Iterator[str]:
    passed = [frame.name for frame in traceback.extract_tb(error.__traceback__)]
    bounds = next((WITHOUT_GRADIENT[name] for name in passed if name in WITHOUT_GRADIENT), None)
    for name in OF_A_STEP if bounds is None else (bounds,):
        value = getattr(settings, name, None)
        if isinstance(value, int) and value > 1:
            yield f"lower {name} from {value} to {value // 2}"
    if bounds is None:
        if getattr(settings, "checkpoint_activations", None) is False:
            yield "set checkpoint_activations=true"
        if getattr(settings, "loss_chunk", 0) is None:
            yield "set loss_chunk=512"
