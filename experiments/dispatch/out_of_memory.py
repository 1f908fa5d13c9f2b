"""Say which settings to change for a run that did not fit its GPU, or the machine."""

import re
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
ON_CPU = re.compile(r"DefaultCPUAllocator.*?allocate (\d+) bytes", re.DOTALL)
OF_A_STEP = ("token_budget", "micro_batch_size")


def out_of_memory(spec: RunSpec, error: BaseException) -> str | None:
    """A sentence for torch's error that memory is full, of a GPU or not; None for any other."""
    import torch

    if isinstance(error, torch.OutOfMemoryError):
        said = ".".join(str(error).partition("\n")[0].split(". ")[:2]).replace(".Tried", ", tried")
        larger = "use a larger GPU"
    elif isinstance(error, RuntimeError) and (tried := ON_CPU.search(str(error))):
        said = f"the machine's memory does not hold {int(tried[1]) / 1e9:,.1f} GB more"
        larger = "use a machine with more of it"
    else:
        return None
    advice = [*_advice(spec.settings, error), larger]
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
