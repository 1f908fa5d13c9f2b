"""BitFit (arXiv 2106.10199): train only the model's biases."""

from __future__ import annotations

from zia_core.attachment import Model
from zia_core.baselines.fine_tuning import linear_probe
from zia_core.four_bit import refuse_four_bit
from zia_core.precision import refuse_half
from zia_core.rollback import all_or_nothing


@all_or_nothing
def bitfit(model: Model) -> Model:
    """Train every bias and the task head (arXiv 2106.10199).

    Linear layers, norms and the patch projection have biases:
    102,912 in a ViT-B/16. This is the BIAS row of VPT's tables.

    Raises:
        ZiaError: the model has no task head, or is in half precision or 4 bits.
    """
    refuse_four_bit(model, "BitFit")
    refuse_half(model, "BitFit")
    linear_probe(model)
    for name, parameter in model.named_parameters():
        if name.rpartition(".")[2] == "bias":
            parameter.requires_grad_(True)
    return model
