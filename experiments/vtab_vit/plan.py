"""The runs of each profile: for every task and method the candidates, then the final seeds."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from experiments.backbones import vision_models
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.vtab_vit import subsets, tasks
from experiments.vtab_vit.methods import METHODS, candidates
from experiments.vtab_vit.selection import select_runs
from experiments.vtab_vit.settings import Settings

NAME, VERSION = "vtab_vit", 1
PROFILES = ("mini", "small", "paper")
SEEDS = (42, 44, 82, 100, 800)  # VPT's
SMALL_TASKS = ("caltech101_96", "dtd10_96", "cifar10", "digits")

# Our small ViT, of 16 patches and 6 blocks. Its images are shrunk with antialiasing, which the
# "vpt" protocol does not do; the normalisation is the one it was trained with.
SMALL: dict[str, Any] = {
    "protocol": "fact",
    "resolution": 32,
    "num_layers": 4,  # so that two blocks stay as they are, as in the paper's 30 of 32
    "visual_prompts": 10,  # as many as zero-init's K; 50 would be three times the patches
    "bottleneck": 16,  # an eighth of the width; ViT-B/16's 64 are a twelfth
    "precision": "fp32",
}
# A named reduced budget for CPUs: 10 epochs instead of 100, the same tenth of them warm-up, 5 to
# choose a candidate, and at most 2,000 test images. In batches of 32: 64 would leave 150 steps.
REDUCED: dict[str, Any] = {
    "epochs": 10.0,
    "warmup_epochs": 1.0,
    "selection_epochs": 5.0,
    "batch_size": 32,
    "micro_batch_size": 32,
    "device": "cpu",
}

# The pocket ViT, of the small one's shape, on the input it was trained with, and on the generated
# tasks. All methods in minutes, so: 125 steps of 8 images, which train further than 70 of 16; two
# adapted blocks, the four below them computed once; and rates that are chosen on one task for all,
# the one on whose val200 a few trials told rates apart best [ours].
MINI: dict[str, Any] = {
    "resolution": 32,
    "num_layers": 2,
    **{name: SMALL[name] for name in ("visual_prompts", "bottleneck", "precision")},
    "epochs": 1.0,
    "warmup_epochs": 0.1,
    "batch_size": 8,
    "micro_batch_size": 8,
    "selection_epochs": 0.75,
    "selection_task": "mini_land",
    "device": "cpu",
}
# Those of VTAB's groups; not vpt-shallow, which the paper's tables do not have.
MINI_TASKS = tuple(task.name for task in tasks.MINI if task.group != "mini-other")
MINI_METHODS = tuple(method for method in METHODS if method != "vpt-shallow")
# Three rates, at one decay, which does little in so few steps; all three times those of the longer
# profiles, for with these the highest was the best of eight methods in ten on val200 [ours].
MINI_CANDIDATES, MINI_RATE = 3, 3.0
# What is compared with VPT and random initialisation has five seeds. The rest has three, or one
# where a step goes through the whole model.
MINI_SEEDS = dict.fromkeys(("zero-init", "random-init", "vpt-deep"), 5) | dict.fromkeys(
    ("full", "bias", "adapter", "sidetune", "lora"), 1
)

# Seconds of an epoch of 1,000 images on one core of an AMD EPYC, from the published runs; below it,
# those of all else in a run: loading, features of the trunk, scoring.
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

# The same of `mini` on a core that others used too: CPU seconds of 1,000 images, and of all else,
# among it a share of reading a task and passing it through the trunk.
MINI_EPOCH_SECONDS = {
    "full": 4.1,
    "linear": 0.1,
    "bias": 3.4,
    "adapter": 2.9,
    "sidetune": 2.3,
    "vpt-deep": 3.1,
    "lora": 2.3,
    "zero-init": 1.0,
    "random-init": 1.1,
    "pixel-probe": 0.1,
}
MINI_OTHER_SECONDS = 0.15

# Forward operations of an image of 224 pixels in ViT-B/16: 2 * 17.6e9; a training step is three
# forward passes or fewer.
FORWARD_FLOP = 35.2e9
ASSUMED_FLOP_PER_S = 100e12  # a third of an A100's peak in bfloat16


def plan(profile: str, device: str) -> list[RunSpec]:
    """All runs of a profile, task by task; those of `mini` are of a CPU, as it is for laptops."""
    if profile == "paper":
        names = [task.name for task in tasks.VTAB_1K]
        compared = [method for method in METHODS if method != "pixel-probe"]
        return list(_grid("paper", vision_models.vit_b16(), subsets.FULL, names, compared, {}))
    if profile == "small":
        reduced = device == "cpu"
        data = subsets.REDUCED if reduced else subsets.FULL
        changes = SMALL | (REDUCED if reduced else {})
        return list(_grid("small", "small-vit", data, SMALL_TASKS, METHODS, changes))
    return list(_grid("mini", "pocket-vit", subsets.FULL, MINI_TASKS, MINI_METHODS, MINI))


def _grid(
    profile: str,
    backbone: str,
    data: str,
    names: Sequence[str],
    methods: Sequence[str],
    changes: dict[str, Any],
) -> Iterator[RunSpec]:
    mini = profile == "mini"
    for task in names:
        for method in methods:
            tried = candidates(method)
            if mini:
                tried = tuple((MINI_RATE * rate, decay) for rate, decay in tried[:MINI_CANDIDATES])
            final = RunSpec(
                experiment=NAME,
                version=VERSION,
                task=task,
                method=method,
                backbone=backbone,
                data=data,
                profile=profile,
                seed=SEEDS[0],
                settings=replace(Settings(), candidates=tried, **changes),
            )
            if final.settings.selection_task is None or task == names[0]:
                yield from select_runs(final)
            seeds = SEEDS[: MINI_SEEDS.get(method, 3)] if mini else SEEDS
            yield from (replace(final, seed=seed) for seed in seeds)


def estimate(spec: RunSpec) -> Estimate:
    """What a run costs: measured where it was, by arithmetic for ViT-B/16."""
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
