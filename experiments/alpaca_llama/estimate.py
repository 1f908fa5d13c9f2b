"""What a run is expected to cost."""

from experiments.alpaca_llama.plan import REDUCED_DATA
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec

# Of `mini`: steps of an epoch, seconds of a step, seconds of the rest of a run.
MINI_STEPS = 62
MINI_STEP_SECONDS = {
    "zero-init": 0.096,
    "random-init": 0.091,
    "random-init-gate": 0.103,
    "lora": 0.119,
    "full": 0.138,
    "frozen": 0.0,
}
MINI_OTHER_SECONDS = 2.5
# Hours and GB with the reduced budget; the other methods take as much as zero-init.
REDUCED_COSTS = {"frozen": (0.03, 2.1), "full": (0.19, 5.5)}
ZERO_INIT_COST = (0.12, 3.9)


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budget of `small`."""
    if spec.data == REDUCED_DATA:
        hours, memory_gb = REDUCED_COSTS.get(spec.method, ZERO_INIT_COST)
        return Estimate(hours, memory_gb, "measured, 2 cores")
    if spec.profile == "mini":
        seconds = MINI_STEP_SECONDS[spec.method] * spec.settings.epochs * MINI_STEPS
        seconds += MINI_OTHER_SECONDS
        return Estimate(seconds / 3600, 1.2, "measured, 1 core")
    if spec.profile == "paper" and spec.settings.device == "cuda":
        return Estimate(8.0, 21.0, "paper, 8 A100")
    return Estimate(None, None, "not measured")
