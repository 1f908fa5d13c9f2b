"""The runs of each profile, task by task: the candidates of each method, then its final runs."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from experiments.backbones import vision_models
from experiments.data.subsets import FULL
from experiments.harness.spec import RunSpec
from experiments.mini_world import image_tasks
from experiments.training.recipe import Recipe
from experiments.vtab_vit import subsets, tasks
from experiments.vtab_vit.methods import METHODS, candidates, wide_candidates
from experiments.vtab_vit.selection import select_runs
from experiments.vtab_vit.settings import Settings

NAME, VERSION = "vtab_vit", 1
PROFILES = ("mini", "small", "paper")
SEEDS = (42, 44, 82, 100, 800)  # VPT's
CANDIDATES = {method: {"candidates": candidates(method)} for method in METHODS}

# ViT-B/16 on VTAB-1k, with the defaults of `Settings`.
PAPER_TASKS = tuple(task.name for task in tasks.VTAB_1K)
PAPER_PLANNED = {method: 5 for method in METHODS if method not in ("pixel-probe", "partial")}

# CLIP ViT-B/16 at the images' own 96 pixels, in float32. Methods adapt the two topmost blocks,
# so that the ten below are computed once: a step takes a sixth of the time, and on a CPU hours
# instead of days. `full` would go through all blocks; `partial` fine-tunes those two instead.
SMALL_TASKS = ("caltech101_96", "dtd10_96", "cifar10", "digits")
SMALL_PLANNED = dict.fromkeys(
    (
        "linear", "pixel-probe", "zero-init", "lora", "vpt-deep", "random-init", "bias", "partial",
    ),
    5,
)  # fmt: skip
SMALL_CANDIDATES = {method: {"candidates": wide_candidates(method)} for method in SMALL_PLANNED}
SMALL: dict[str, Any] = {
    "protocol": "clip",
    "resolution": 96,
    "num_layers": 2,
    "adapted_blocks": 2,
    "visual_prompts": 10,  # as many as zero-init's K; 50 would be more than the 36 patches
    "precision": "fp32",
}
# A reduced budget for CPUs: 5 epochs instead of 100 with the same share of warm-up, half as many to
# choose a candidate, and at most 2,000 test images. Batches of 64 would leave 78 steps.
REDUCED: dict[str, Any] = {
    "epochs": 5.0,
    "warmup_epochs": 0.5,
    "selection_epochs": 2.5,
    "batch_size": 32,
    "micro_batch_size": 32,
    "device": "cpu",
}

# The pocket ViT, of 16 patches and 6 blocks, on the generated tasks of VTAB's groups; without
# vpt-shallow, which the paper's tables do not have. To take minutes: 125 steps of 8 images, which
# train further than 70 of 16; the four blocks below the two adapted ones are computed once; and
# rates are chosen on one task for all, the one whose val200 told rates apart best [ours].
MINI_TASKS = tuple(task.name for task in image_tasks.MINI if task.group != "mini-other")
MINI: dict[str, Any] = {
    "resolution": 32,
    "num_layers": 2,
    "visual_prompts": 10,  # as many as zero-init's K; 50 would be three times the patches
    "bottleneck": 16,  # an eighth of the width; ViT-B/16's 64 are a twelfth
    "precision": "fp32",
    "epochs": 1.0,
    "warmup_epochs": 0.1,
    "batch_size": 8,
    "micro_batch_size": 8,
    "selection_epochs": 0.75,
    "selection_task": "mini_land",
    "device": "cpu",
}
# Three rates at one decay, which does little in so few steps. They are three times those of the
# longer profiles: with these, the highest was best on val200 for eight methods in ten [ours].
MINI_CANDIDATES = {
    method: {"candidates": tuple((3.0 * rate, decay) for rate, decay in candidates(method)[:3])}
    for method in METHODS
}
# Claims compare the methods with five seeds; one seed where a step goes through the whole model.
MINI_PLANNED = {
    "full": 1,
    "linear": 3,
    "bias": 1,
    "adapter": 1,
    "sidetune": 1,
    "vpt-deep": 5,
    "lora": 1,
    "zero-init": 5,
    "random-init": 5,
    "pixel-probe": 3,
}


def plan(profile: str, device: str) -> list[RunSpec]:
    """Return all runs of a profile; those of `mini` are on a CPU whatever the device."""
    if profile == "paper":
        recipe = _recipe(profile, vision_models.vit_b16(), FULL, {}, CANDIDATES)
        return list(_grid(recipe, PAPER_TASKS, PAPER_PLANNED))
    if profile == "small":
        data, budget = (subsets.REDUCED, REDUCED) if device == "cpu" else (FULL, {})
        backbone = vision_models.CLIP.name
        recipe = _recipe(profile, backbone, data, SMALL | budget, SMALL_CANDIDATES)
        return list(_grid(recipe, SMALL_TASKS, SMALL_PLANNED))
    recipe = _recipe(profile, "pocket-vit", FULL, MINI, MINI_CANDIDATES)
    return list(_grid(recipe, MINI_TASKS, MINI_PLANNED))


def _recipe(
    profile: str, backbone: str, data: str, settings: dict[str, Any], methods: Mapping[str, Any]
) -> Recipe:
    return Recipe(NAME, VERSION, profile, backbone, data, Settings(**settings), methods, SEEDS)


def _grid(recipe: Recipe, names: Sequence[str], planned: Mapping[str, int]) -> Iterator[RunSpec]:
    """Every method on every task, the select runs of a method before its final runs."""
    for task in names:
        for method, count in planned.items():
            finals = list(recipe.runs(task, {method: count}))
            if recipe.settings.selection_task is None or task == names[0]:
                yield from select_runs(finals[0])
            yield from finals
