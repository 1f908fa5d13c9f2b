"""Measure the share of the prompt term by layer and head at the end of a run.

A run's `prompt_share.json` is {"of": the examples, "share": {layer: [share of each head]}}; the
share is |a(g) A_p V_p| / |A_w V_w|, see `zia_core.observe`. Methods without gates have no such
file, nor do older runs.
"""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from experiments.harness import stored
from experiments.harness.folder import RunFolder
from experiments.training.optimisation import Optimisation, autocast

if TYPE_CHECKING:
    from torch import Tensor, nn

NAME = stored.PROMPT_SHARE
EXAMPLES = 16


def write_prompt_share(
    folder: RunFolder,
    model: "nn.Module",
    of: str,
    batches: "Iterable[dict[str, Tensor]]",
    forward: "Callable[[nn.Module, dict[str, Tensor]], Any]",
    settings: Optimisation,
) -> None:
    """Pass batches through the model, in eval mode, and write the shares.

    Args:
        folder: of the run.
        model: after its training; without gates nothing is written.
        of: a name for the examples, for readers.
        batches: `EXAMPLES` of one example each, since padding would count.
        forward: passes one batch, which is on the model's device.
        settings: of the run; batches are passed in the precision that it trained in.
    """
    from zia_core.observe import observed

    device = next(model.parameters()).device
    with observed(model) as norms, autocast(settings):
        if not norms:
            return
        for batch in batches:
            forward(model, {name: value.to(device) for name, value in batch.items()})
    share = {
        str(layer): [float(f"{head:.6g}") for head in sums.share()] for layer, sums in norms.items()
    }
    with folder.writing(NAME) as path:
        path.write_text(
            json.dumps({"of": of, "share": share}, allow_nan=False) + "\n", encoding="utf-8"
        )


def first_alone(dataset: Any) -> "Iterable[dict[str, Tensor]]":
    """Batches of one example each: the first of a data set."""
    return (dataset.batch([index]) for index in range(min(EXAMPLES, len(dataset))))
