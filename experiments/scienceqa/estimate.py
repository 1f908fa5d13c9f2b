"""What a run is expected to cost."""

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.scienceqa.plan import REDUCED_DATA
from experiments.scienceqa.subsets import OWN_SPLIT

# Seconds of one core with the reduced budgets: loading and answering, and an epoch of training.
REDUCED_SECONDS = {OWN_SPLIT: (75, 105), REDUCED_DATA: (130, 75)}


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budgets of `small`."""
    if spec.profile == "mini":
        fixed = 5.0 if spec.settings.phase == "final" else 2.6
        epoch = 7.4 if spec.method == "lora" else 5.8
        return Estimate((fixed + epoch * spec.settings.epochs) / 3600, 1.1, "measured, 1 core")
    if spec.data not in REDUCED_SECONDS or spec.profile != "small":
        return Estimate(None, None, "not measured")
    fixed, epoch = REDUCED_SECONDS[spec.data]
    return Estimate((fixed + epoch * spec.settings.epochs) / 3600, 4.4, "measured, 1 core")
