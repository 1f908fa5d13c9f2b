"""The runs of each profile, task by task: the candidates of each method, then its final runs."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from experiments.backbones import vision_models
from experiments.data.subsets import FULL
from experiments.harness.spec import RunSpec
from experiments.training.length import Trials
from experiments.training.recipe import Recipe
from experiments.vtab_vit import subsets, tasks
from experiments.vtab_vit.methods import METHODS, WEIGHT_DECAY, candidates, wide_candidates
from experiments.vtab_vit.selection import select_runs
from experiments.vtab_vit.settings import Settings

NAME, VERSION = "vtab_vit", 1
PROFILES = ("mini", "small", "paper")
SEEDS = (42, 44, 82, 100, 800)  # VPT's
CANDIDATES = {method: {"candidates": candidates(method)} for method in METHODS}

# ViT-B/16 on VTAB-1k, with the defaults of `Settings`.
PAPER_TASKS = tuple(task.name for task in tasks.VTAB_1K)
PAPER_PLANNED = {method: 5 for method in METHODS if method not in ("pixel-probe", "partial")}

# CLIP ViT-B/16 at 96 pixels, the size of Caltech-101 and DTD here. Methods adapt the two topmost
# blocks, so that the ten below are computed once: a step takes a sixth of the time, and on a CPU
# hours instead of days. `full` would go through all blocks; `partial` fine-tunes those two instead.
# The two are computed in bfloat16, which is faster; the ten are not, as it would move the features
# (benchmarks, `trunk_precision`).
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
    "precision": "bf16-autocast",
    "trunk_precision": "fp32",
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
# The best rate of these was the highest of five: they get higher ones.
REDUCED_HIGHER = {
    ("bias", "dtd10_96"): (1e-3, 3e-3, 1e-2, 3e-2, 0.1),
    ("vpt-deep", "digits"): (3e-3, 1e-2, 3e-2, 0.1, 0.3),
}

# The pocket ViT, of 16 patches and 6 blocks, on the generated tasks of VTAB's groups, with the
# methods that claims need. The four blocks below the two adapted ones are computed once; a method
# has one rate for all tasks, which what it needs on a single one does not tell [ours].
MINI_TASKS = tuple(task.name for task in tasks.MINI_GROUPS)
MINI: dict[str, Any] = {
    "resolution": 32,
    "num_layers": 2,
    "visual_prompts": 10,  # as many as zero-init's K; 50 would be three times the patches
    "bottleneck": 16,  # an eighth of the width; ViT-B/16's 64 are a twelfth
    "precision": "fp32",
    "epochs": 8.0,  # by the rule of `training.length`
    "warmup_epochs": 0.8,
    "batch_size": 8,
    "micro_batch_size": 8,
    "selection_epochs": 4.0,
    "selection_task": "@mini",
    "device": "cpu",
}
# Every method chooses from as many rates, a factor of three apart, at one decay.
MINI_RATES: dict[str, tuple[float, ...]] = {
    "linear": (0.03, 0.1, 0.3, 1.0),
    "vpt-deep": (1e-3, 3e-3, 0.01, 0.03),
    "lora": (3e-4, 1e-3, 3e-3, 0.01),
    "zero-init": (0.01, 0.03, 0.1, 0.3),
    "random-init": (0.01, 0.03, 0.1, 0.3),
    "pixel-probe": (3e-4, 1e-3, 3e-3, 0.01),
}
MINI_CANDIDATES: dict[str, dict[str, Any]] = {
    method: {"candidates": tuple((rate, WEIGHT_DECAY) for rate in rates)}
    for method, rates in MINI_RATES.items()
}
# LoRA and VPT are in all six blocks: is it that what they lead by?
FOLLOW_UPS: dict[str, dict[str, Any]] = {"zero-init-6-layers": {"num_layers": 6}}
MINI_CANDIDATES |= {
    method: MINI_CANDIDATES["zero-init"] | own for method, own in FOLLOW_UPS.items()
}
# Five seeds of what claims compare; "linear" and "pixel-probe" tell which tasks count.
MINI_PLANNED = {
    "linear": 3,
    "vpt-deep": 5,
    "lora": 5,
    "zero-init": 5,
    "zero-init-6-layers": 5,
    "random-init": 5,
    "pixel-probe": 3,
}
MINI_RECIPE = Recipe(
    NAME, VERSION, "mini", "pocket-vit", FULL, Settings(**MINI), MINI_CANDIDATES, SEEDS
)
MINI_TRIALS = Trials(
    MINI_RECIPE,
    tasks=MINI_TASKS,
    score="accuracy",
    better="higher",
    rates={"zero-init": {0.09: 16, 0.03: 4}, "lora": {0.003: 16, 0.001: 4}},
    lengths=(1, 2, 4, 8, 16),
    settings={"weight_decay": WEIGHT_DECAY, "selection_task": None},
)


def plan(profile: str, device: str) -> list[RunSpec]:
    """Return all runs of a profile; those of `mini` are on a CPU whatever the device."""
    if profile == "paper":
        recipe = _recipe(profile, vision_models.vit_b16(), FULL, {}, CANDIDATES)
        return list(_grid(recipe, PAPER_TASKS, PAPER_PLANNED))
    if profile == "small":
        data, budget, higher = FULL, {}, {}
        if device == "cpu":
            data, budget, higher = subsets.REDUCED, REDUCED, REDUCED_HIGHER
        backbone = vision_models.CLIP.name
        recipe = _recipe(profile, backbone, data, SMALL | budget, SMALL_CANDIDATES)
        return list(_grid(recipe, SMALL_TASKS, SMALL_PLANNED, higher))
    return [*_grid(MINI_RECIPE, MINI_TASKS, MINI_PLANNED), *MINI_TRIALS.runs()]


def _recipe(
    profile: str, backbone: str, data: str, settings: dict[str, Any], methods: Mapping[str, Any]
) -> Recipe:
    return Recipe(NAME, VERSION, profile, backbone, data, Settings(**settings), methods, SEEDS)


def _grid(
    recipe: Recipe,
    names: Sequence[str],
    planned: Mapping[str, int],
    higher: Mapping[tuple[str, str], Sequence[float]] = MappingProxyType({}),
) -> Iterator[RunSpec]:
    """Every method on every task, the select runs of a method before its final runs.

    `higher` has the rates of a method on a task that are not its usual ones.
    """
    for task in names:
        for method, count in planned.items():
            rates = higher.get((method, task))
            own = {"candidates": tuple((rate, WEIGHT_DECAY) for rate in rates)} if rates else {}
            finals = list(recipe.runs(task, {method: count}, **own))
            if recipe.settings.selection_task is None or task == names[0]:
                yield from select_runs(finals[0])
            yield from finals
