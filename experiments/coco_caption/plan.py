"""The runs of each profile: COCO for `paper`, Flickr8k for `small`, generated scenes for `mini`."""

from collections.abc import Iterator
from typing import Any

from experiments.backbones import language_models
from experiments.coco_caption.data import FULL
from experiments.coco_caption.settings import Settings
from experiments.harness.spec import RunSpec
from experiments.language import mini_settings
from experiments.language.methods import METHODS, with_clip
from experiments.training.length import Trials
from experiments.training.recipe import Recipe
from experiments.training.selection import select_runs, with_select_runs

NAME, VERSION = "coco_caption", 1
PROFILES = ("mini", "small", "paper")
# Seeds of each method. The first two show what the image adds.
PLANNED = {
    "zero-init": 5,
    "zero-init-text": 5,
    "zero-init-queries": 1,
    "random-init": 1,
    "lora": 1,
}
SMALL_PLANNED = dict.fromkeys(PLANNED, 5)
MINI_PLANNED = {"zero-init": 5, "zero-init-text": 5, "random-init": 5, "lora": 5}

# The bottleneck is that of `scienceqa`, which fits the paper's 1.8M parameters.
PAPER: dict[str, Any] = {"bottleneck": 54, "token_budget": 2048, "precision": "bf16"}
# Methods that see images have CLIP ViT-B/16 (`with_clip`). The others read no encoder; what their
# settings name is that of their published runs.
SMALL: dict[str, Any] = {
    "encoder": "small-vit",
    "depths": (1, 2, 3, 4, 5, 6),
    "encoder_device": "cpu",
}
# A reduced budget for CPUs: the first 300 images with their five captions, 1,500 examples, seen
# once; 200 images are captioned.
REDUCED_DATA = "reduced-300"
REDUCED: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 1.0,
    "warmup_epochs": 0.2,
    "peak_lr": 9e-3,  # the paper's, unscaled, as in `alpaca_llama`
    "evaluations": 1,
    "token_budget": 2048,
    "eval_tokens": 2048,
    "new_tokens": 24,
    "device": "cpu",
    "precision": "bf16",  # of the frozen weights; trained weights are float32
}
MINI = mini_settings.MINI | {
    "epochs": 4.0,  # by the rule of `training.length`
    "warmup_epochs": 0.4,
    "selection_epochs": 2.0,
    "max_length": 64,
}

MINI_RECIPE = Recipe(
    NAME, VERSION, "mini", "pocket-llama", FULL, Settings(**MINI), mini_settings.MINI_METHODS
)
MINI_TRIALS = Trials(
    MINI_RECIPE,
    tasks=("coco",),
    score="CIDEr",
    better="higher",
    rates={"zero-init": {0.1: 8, 0.3: 4}, "lora": {3e-3: 8, 1e-2: 4}},
    lengths=(1, 2, 4, 8),
    settings={"evaluated_on": "val"},
)


def plan(profile: str, device: str) -> list[RunSpec]:
    """Return all runs of a profile, final runs before select runs."""
    if profile == "mini":
        return [*with_select_runs(_mini(), requires), *MINI_TRIALS.runs()]
    return list(_paper() if profile == "paper" else _small(device))


def requires(spec: RunSpec) -> list[RunSpec]:
    """Return the select runs of a run. The validation loss decides, so one token is generated."""
    return select_runs(spec, evaluated_on="val", new_tokens=1, candidates=())


def later(spec: RunSpec) -> bool:
    """Say whether the first stage of `mini` leaves the run out: no claim compares captions."""
    return spec.profile == "mini" and spec.method != "zero-init"


def _mini() -> Iterator[RunSpec]:
    """The pocket LLaMA and the pocket ViT, on a CPU whatever the device."""
    return MINI_RECIPE.runs("coco", MINI_PLANNED)


def _paper() -> Iterator[RunSpec]:
    """LLaMA-7B and CLIP ViT-L/14 on COCO."""
    recipe = Recipe(NAME, VERSION, "paper", "llama-7b", FULL, Settings(**PAPER), METHODS)
    return recipe.runs("coco", PLANNED)


def _small(device: str) -> Iterator[RunSpec]:
    """SmolLM2-135M-Instruct and CLIP ViT-B/16; on a CPU with the reduced budget."""
    name, cpu = language_models.smollm2(), device == "cpu"
    # The paper adapts 30 of 32 layers.
    layers = {"num_layers": round(language_models.get(name).layers * 30 / 32)}
    settings = Settings(**SMALL | layers | (REDUCED if cpu else {}))
    data = REDUCED_DATA if cpu else FULL
    recipe = Recipe(NAME, VERSION, "small", name, data, settings, with_clip(METHODS))
    return recipe.runs("flickr8k", SMALL_PLANNED)
