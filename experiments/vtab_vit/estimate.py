"""What a run is expected to cost."""

from pathlib import Path

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.training.predicted_cost import Predictor, Work
from experiments.vtab_vit import subsets, tasks
from experiments.vtab_vit.methods import has_trunk
from experiments.vtab_vit.step_shape import micro_batch

# CPU seconds to train on 1,000 images in `small` on a core of an AMD EPYC, from cached features of
# the ten blocks below; scoring an image takes half of that. `bias` and `partial` are 0.7 of what
# they take in float32. Below, seconds for the rest of a run: loading, and its share of the
# features, which take 270 for a task and a depth.
EPOCH_SECONDS = {
    "linear": 0.06,
    "pixel-probe": 0.6,
    "zero-init": 15.0,
    "lora": 17.0,
    "vpt-deep": 21.0,
    "random-init": 15.5,
    "bias": 15.5,
    "partial": 23.0,
}
OTHER_SECONDS = 11.0
MEMORY_GB = 2.7  # of a process that does all runs

# The same in `mini`.
MINI_EPOCH_SECONDS = {
    "linear": 0.06,
    "vpt-deep": 2.5,
    "lora": 2.0,
    "zero-init": 0.7,
    "zero-init-6-layers": 2.0,
    "random-init": 0.8,
    "pixel-probe": 0.06,
}
MINI_OTHER_SECONDS = 0.6
MINI_MEMORY_GB = 0.96  # of a process that does all runs
NOT_MEASURED = Estimate(None, None, "not measured")


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run: measured for `small` and `mini`, predicted for `paper`."""
    task, settings = tasks.get(spec.task), spec.settings
    select = settings.phase == "select"
    trained = settings.epochs * (task.train if select else task.train + task.val)
    if spec.data == subsets.REDUCED:
        if spec.method not in EPOCH_SECONDS:
            return NOT_MEASURED
        scored = task.val if select else min(task.test, 2000)
        images = trained + scored / 2
        seconds = EPOCH_SECONDS[spec.method] * images / 1000 + OTHER_SECONDS
        return Estimate(seconds / 3600, MEMORY_GB, "measured, 1 core")
    if spec.profile == "mini" and spec.method in MINI_EPOCH_SECONDS:
        seconds = MINI_EPOCH_SECONDS[spec.method] * trained / 1000 + MINI_OTHER_SECONDS
        return Estimate(seconds / 3600, MINI_MEMORY_GB, "measured, 1 core")
    return PREDICTOR.estimate(spec) if spec.profile == "paper" else NOT_MEASURED


def work(spec: RunSpec) -> Work:
    """Training, and the images it is scored on."""
    task, select = tasks.get(spec.task), spec.settings.phase == "select"
    images = task.train if select else task.train + task.val
    # The features of a trunk, even of all blocks, cost a forward pass of every image.
    once = images if has_trunk(spec.method, spec.settings) else 0
    return Work(spec.settings.epochs * images, once + (task.val if select else task.test))


PREDICTOR = Predictor(Path(__file__).parent, micro_batch, work)
