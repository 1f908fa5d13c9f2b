"""The share of the prompt term by layer and head, measured once at the end of a run.

`prompt_share.json` in a run's folder: {"of": what was seen, "share": {layer: [of each head]}}, the
share being |a(g) A_p V_p| / |A_w V_w| (see `zia_core.observe`). Runs of methods without gates, and
those that are older than this file, do not have it.
"""

import json
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from experiments.harness import stored
from experiments.harness.folder import RunFolder

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
) -> None:
    """Pass batches through the model, in eval mode, and write down the shares that were seen.

    Args:
        folder: of the run.
        model: as it was trained; without gates nothing is passed and nothing written.
        of: what the batches are, for readers.
        batches: `EXAMPLES` of one example each, since positions of padding would count.
        forward: passes one batch, which is on the model's device.
    """
    from zia_core.observe import observed

    device = next(model.parameters()).device
    with observed(model) as norms:
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
    """The first examples of a data set that makes batches of them, one at a time."""
    return (dataset.batch([index]) for index in range(min(EXAMPLES, len(dataset))))
