"""What a run is expected to cost."""

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.vtab_vit import subsets, tasks

# Seconds to train on 1,000 images on one core of an AMD EPYC, from the published runs of `small`;
# below, seconds for the rest of a run: loading, features of the trunk, scoring.
EPOCH_SECONDS = {
    "full": 2.2,
    "linear": 0.02,
    "bias": 1.7,
    "adapter": 1.3,
    "sidetune": 0.9,
    "vpt-shallow": 1.7,
    "vpt-deep": 1.8,
    "lora": 1.2,
    "zero-init": 0.8,
    "random-init": 0.9,
    "pixel-probe": 0.02,
}
OTHER_SECONDS = 2.0
MEMORY_GB = 0.96  # of a process that does all runs

# The same in `mini`.
MINI_EPOCH_SECONDS = {
    "full": 3.6,
    "linear": 0.06,
    "bias": 2.5,
    "adapter": 2.1,
    "sidetune": 1.6,
    "vpt-deep": 2.5,
    "lora": 2.0,
    "zero-init": 0.7,
    "random-init": 0.8,
    "pixel-probe": 0.06,
}
MINI_OTHER_SECONDS = 0.6

# Operations of a forward pass of ViT-B/16 on 224 pixels: 2 * 17.6e9. A training step is at most
# three forward passes.
FORWARD_FLOP = 35.2e9
ASSUMED_FLOP_PER_S = 100e12  # a third of an A100's peak in bfloat16


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run: measured for the small ViTs, by arithmetic for ViT-B/16."""
    task, settings = tasks.get(spec.task), spec.settings
    select = settings.phase == "select"
    trained = settings.epochs * (task.train if select else task.train + task.val)
    if spec.data == subsets.REDUCED:
        seconds = EPOCH_SECONDS[spec.method] * trained / 1000 + OTHER_SECONDS
        return Estimate(seconds / 3600, MEMORY_GB, "measured, 1 core")
    if spec.profile == "mini" and spec.method in MINI_EPOCH_SECONDS:
        seconds = MINI_EPOCH_SECONDS[spec.method] * trained / 1000 + MINI_OTHER_SECONDS
        return Estimate(seconds / 3600, MEMORY_GB, "measured, 1 core")
    if spec.profile != "paper" or settings.device == "cpu":
        return Estimate(None, None, "not measured")
    forward_passes = 3 * trained + (task.val if select else task.test)
    hours = forward_passes * FORWARD_FLOP / ASSUMED_FLOP_PER_S / 3600
    return Estimate(hours, None, "arithmetic, 100 TFLOP/s")
