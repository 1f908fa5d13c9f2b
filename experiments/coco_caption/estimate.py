"""What a run is expected to cost."""

from experiments.coco_caption.plan import REDUCED_DATA
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budget of `small`."""
    if spec.profile == "mini":
        epoch = 7.6 if spec.method == "lora" else 6.9
        return Estimate((2.0 + epoch * spec.settings.epochs) / 3600, 1.1, "measured, 1 core")
    if spec.data != REDUCED_DATA or spec.profile != "small":
        return Estimate(None, None, "not measured")
    return Estimate(0.06, 4.9, "measured, 1 core")
