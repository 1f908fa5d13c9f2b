"""The runs of each profile: the main table, the ablations, and the own split of `small`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

from experiments.backbones import language_models
from experiments.data.subsets import FULL
from experiments.harness.spec import RunSpec
from experiments.language import mini_settings
from experiments.language.depth import DEPTH, scaled
from experiments.language.methods import METHODS, with_clip
from experiments.scienceqa.settings import Settings
from experiments.scienceqa.subsets import MINI_IMAGES, OWN_SPLIT
from experiments.training.length import Trials
from experiments.training.recipe import Recipe
from experiments.training.selection import select_runs, with_select_runs

NAME, VERSION = "scienceqa", 1
PROFILES = ("mini", "small", "paper")
# Table 2; Tables 4, 5 and 6, which ablate it on validation and share a run; and questions that all
# have an image, of which `small` has an own split: its other data have no images to train on.
TASK, ABLATION, OWN = "qcm-a", "ablation", "own-split"
TASKS = (TASK, ABLATION, OWN)
ABLATED_LAYERS = (10, 20, 30, 32)  # of these
ABLATED_EPOCHS = (15, 30, 60)
EPOCHS = 30  # of all other runs
LONGER = 120  # epochs in `mini`: does the loss rise later than in the paper?

# Seeds of each method; the pair with five shows what the image adds.
PLANNED = {"zero-init": 5, "zero-init-text": 5, "zero-init-queries": 1, "lora": 1, "lora-text": 1}
OWN_PLANNED = {
    "zero-init": 5,
    "zero-init-text": 5,
    "random-init": 5,
    "zero-init-queries": 5,
    "lora": 5,
    "lora-text": 5,
    "frozen": 1,
}
# What the ablations have in common with Table 2 is trained once. Problems 1 to 1773 have no images
# to train on, so no method sees one.
TEXT_SHARED = {"zero-init-text": 5, "random-init-text": 5}
TEXT_PLANNED = {"lora-text": 5, "frozen": 1}
# With five seeds of `mini`, four claims about the main table were open; it has twenty since.
MINI_SEEDS = 20
MINI_SHARED = {"zero-init": MINI_SEEDS, "random-init": MINI_SEEDS}
MINI_PLANNED = dict.fromkeys(("zero-init-text", "lora", "zero-init-40"), MINI_SEEDS) | {"frozen": 1}
# With 40 prompts zero-init has as many parameters as LoRA: is it these that LoRA leads by?
FOLLOW_UPS: dict[str, dict[str, Any]] = {"zero-init-40": {"prompt_length": 40}}
ABLATED_SEEDS = 5
# A third of the questions have an image: three times the epochs are as many steps.
MINI_OWN = {"zero-init": 5, "zero-init-text": 5}

# In bfloat16 LLaMA-7B takes 13.5 GB, and 30 adapted layers keep 11 GB for 2,048 tokens. Six depths
# of 1,024 channels through a bottleneck of 54 are 557,110 parameters, and with prompts and gates
# 1,786,870: the paper's 0.6M and 1.8M.
PAPER: dict[str, Any] = {"bottleneck": 54, "token_budget": 2048, "precision": "bf16"}
# Methods that see images have CLIP ViT-B/16 (`with_clip`). The others read no encoder; what their
# settings name is that of their published runs.
SMALL: dict[str, Any] = {
    "encoder": "small-vit",
    "depths": (1, 2, 3, 4, 5, 6),
    "encoder_device": "cpu",
}
# The own split's questions are the official ones without hints, which the partial data lack.
OWN_SETTINGS: dict[str, Any] = {"context": "none", "max_length": 256}
# A reduced budget for CPUs.
REDUCED_DATA = "reduced-320"
REDUCED: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 3.0,
    "warmup_epochs": 0.5,
    "evaluations": 3,
    "token_budget": 2048,
    "eval_tokens": 2048,
    "threads": 1,
    "device": "cpu",
    "precision": "bf16",  # of the frozen weights; trained weights are float32
}
# Prompts get the paper's 9e-3 unscaled, as in `alpaca_llama`: at 9e-3 * 16 / 256 a gate would not
# move in so few steps.
REDUCED_METHODS = {
    method: own if method == "frozen" else {"peak_lr": 9e-3} | own
    for method, own in with_clip(METHODS).items()
}
# 900 generated questions, a third with an image. The pocket LLaMA answers in words first.
MINI = mini_settings.MINI | {
    "output": "EA",
    "epochs": 8.0,  # by the rule of `training.length`
    "warmup_epochs": 0.8,
    "selection_epochs": 4.0,
    "max_length": 192,
}

MINI_METHODS = mini_settings.MINI_METHODS | {
    method: mini_settings.MINI_METHODS["zero-init"] | own for method, own in FOLLOW_UPS.items()
}

MINI_RECIPE = Recipe(
    *(NAME, VERSION, "mini", "pocket-llama", "mini", Settings(**MINI), MINI_METHODS),
    seeds=range(MINI_SEEDS),
)
MINI_TRIALS = Trials(
    MINI_RECIPE,
    tasks=(TASK,),
    score="acc_average",
    better="higher",
    rates={"zero-init": {0.3: 8, 0.1: 8}, "lora": {1e-2: 8, 3e-3: 8}},
    lengths=(1, 2, 4, 8),
    settings={"evaluated_on": "val"},
)


def plan(profile: str, device: str) -> list[RunSpec]:
    """Return all runs of a profile, final runs before select runs."""
    if profile == "mini":
        return [*with_select_runs(_mini(), requires), *MINI_TRIALS.runs()]
    return list(_paper() if profile == "paper" else _small(device))


def requires(spec: RunSpec) -> list[RunSpec]:
    """Return the select runs of a run. The validation loss decides, so one token is generated.

    An ablation of `mini` takes the rate of its method in the main table, so that nothing but the
    ablated setting differs.
    """
    if spec.profile == "mini" and spec.task == ABLATION:
        kept = ("num_layers", "epochs", "warmup_epochs", "evaluations")
        same = {name: MINI[name] for name in kept}
        depth = spec.settings.backbone_layers or _depth(spec.backbone)
        same["num_layers"] = scaled(30, depth)
        spec = replace(spec, task=TASK, settings=replace(spec.settings, **same))
    return select_runs(spec, evaluated_on="val", also_validated=False, new_tokens=1, candidates=())


def later(spec: RunSpec) -> bool:
    """Say whether the first stage of `mini` leaves the run out: ablations of 60 and more epochs."""
    longer = spec.settings.epochs > MINI["epochs"]
    return spec.profile == "mini" and spec.task == ABLATION and longer


def _mini() -> Iterator[RunSpec]:
    """The pocket LLaMA and the pocket ViT, on a CPU whatever the device."""
    *epochs, follow_up = (MINI["epochs"] * each / EPOCHS for each in (*ABLATED_EPOCHS, LONGER))
    yield from _with_shared(MINI_RECIPE, MINI_SHARED, MINI_PLANNED, epochs)
    yield from _lengths(MINI_RECIPE, {"zero-init": ABLATED_SEEDS}, [follow_up])
    longer = {name: 3 * MINI[name] for name in ("epochs", "warmup_epochs", "selection_epochs")}
    yield from replace(MINI_RECIPE, data=MINI_IMAGES).runs(OWN, MINI_OWN, **longer)


def _paper() -> Iterator[RunSpec]:
    """LLaMA-7B and CLIP ViT-L/14 on all of ScienceQA."""
    recipe = Recipe(NAME, VERSION, "paper", "llama-7b", FULL, Settings(**PAPER), METHODS)
    yield from recipe.runs(TASK, PLANNED)
    yield from _ablations(recipe, {"zero-init": 1, "random-init": 1}, DEPTH, ABLATED_EPOCHS)


def _small(device: str) -> Iterator[RunSpec]:
    """SmolLM2-135M-Instruct and CLIP ViT-B/16; ablations on text."""
    name, cpu = language_models.smollm2(), device == "cpu"
    layers = {"num_layers": scaled(30, _depth(name))}
    settings = Settings(**SMALL | layers | (REDUCED if cpu else {}))
    data, methods = (REDUCED_DATA, REDUCED_METHODS) if cpu else ("reduced-1773", with_clip(METHODS))
    recipe = Recipe(NAME, VERSION, "small", name, data, settings, methods)
    yield from replace(recipe, data=OWN_SPLIT).runs(OWN, OWN_PLANNED, **OWN_SETTINGS)
    # On a CPU a tenth of the paper's epochs.
    epochs = [each / 10 if cpu else each for each in ABLATED_EPOCHS]
    yield from _with_shared(recipe, TEXT_SHARED, TEXT_PLANNED, epochs)


def _with_shared(
    recipe: Recipe, shared: dict[str, int], planned: dict[str, int], epochs: Sequence[float]
) -> Iterator[RunSpec]:
    """Table 2 and the ablations. The run that these have in common is in Table 2, validated too."""
    yield from recipe.runs(TASK, shared, also_validated=True)
    yield from recipe.runs(TASK, planned)
    common = (recipe.settings.num_layers, recipe.settings.epochs)
    ablated = {method: min(count, ABLATED_SEEDS) for method, count in shared.items()}
    for spec in _ablations(recipe, ablated, _depth(recipe.backbone), epochs):
        if (spec.settings.num_layers, spec.settings.epochs) != common:
            yield spec


def _ablations(
    recipe: Recipe, pair: dict[str, int], depth: int, epochs: Sequence[float]
) -> Iterator[RunSpec]:
    """Tables 4, 5 and 6; the run they share comes once.

    `pair` has the seeds of zero and of random initialisation, and `depth` is the backbone's.
    """
    zero_init, random_init = ({method: count} for method, count in pair.items())
    ablation = partial(recipe.runs, ABLATION, evaluated_on="val")
    for layers in ABLATED_LAYERS:
        yield from ablation(zero_init, num_layers=scaled(layers, depth))
    yield from ablation(random_init)
    yield from _lengths(recipe, zero_init, (epochs[0], epochs[2]))  # all others have the middle one


def _lengths(recipe: Recipe, planned: dict[str, int], epochs: Sequence[float]) -> Iterator[RunSpec]:
    for each in map(float, epochs):
        changed = {"epochs": each, "evaluations": max(1, round(each))}
        yield from recipe.runs(ABLATION, planned, evaluated_on="val", **changed)


def _depth(backbone: str) -> int:
    return language_models.get(backbone).layers
