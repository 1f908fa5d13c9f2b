"""What a run is expected to cost."""

from pathlib import Path

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.training.predicted_cost import Predictor, Work
from experiments.vtab_vit import subsets, tasks
from experiments.vtab_vit.methods import WITHOUT_TRUNK
from experiments.vtab_vit.step_shape import micro_batch

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
    "linear": 0.06,
    "vpt-deep": 2.5,
    "lora": 2.0,
    "zero-init": 0.7,
    "random-init": 0.8,
    "pixel-probe": 0.06,
}
MINI_OTHER_SECONDS = 0.6
NOT_MEASURED = Estimate(None, None, "not measured")


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
    return PREDICTOR.estimate(spec) if spec.profile == "paper" else NOT_MEASURED


def work(spec: RunSpec) -> Work:
    """Training, and the images it is scored on."""
    task, select = tasks.get(spec.task), spec.settings.phase == "select"
    images = task.train if select else task.train + task.val
    # The features of a trunk, even of all blocks, cost a forward pass of every image.
    once = 0 if spec.method in WITHOUT_TRUNK else images
    return Work(spec.settings.epochs * images, once + (task.val if select else task.test))


PREDICTOR = Predictor(Path(__file__).parent, micro_batch, work)
