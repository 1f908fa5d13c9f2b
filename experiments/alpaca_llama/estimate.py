"""What a run is expected to cost."""

from experiments.alpaca_llama.plan import REDUCED_DATA
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec

MINI_STEPS = 62  # of an epoch
# Hours and GB with the reduced budget; the other methods take as much as zero-init.
REDUCED_COSTS = {"frozen": (0.03, 2.1), "full": (0.19, 5.5)}
ZERO_INIT_COST = (0.12, 3.9)


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budget of `small`."""
    if spec.data == REDUCED_DATA:
        hours, memory_gb = REDUCED_COSTS.get(spec.method, ZERO_INIT_COST)
        return Estimate(hours, memory_gb, "measured, 2 cores")
    if spec.profile == "mini":
        step = 0.14 if spec.method == "full" else 0.102
        seconds = step * spec.settings.epochs * MINI_STEPS
        seconds += 0.7 if spec.settings.phase == "select" else 1.9
        return Estimate(seconds / 3600, 1.2, "measured, 1 core")
    if spec.profile == "paper" and spec.settings.device == "cuda":
        return Estimate(8.0, 21.0, "paper, 8 A100")
    return Estimate(None, None, "not measured")
