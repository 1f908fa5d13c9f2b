"""The runs of each profile: COCO for the paper, Flickr8k for `small`."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from experiments.backbones import language_models
from experiments.coco_caption.data import FULL
from experiments.coco_caption.settings import Settings
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.language.methods import METHODS
from experiments.language.mini_settings import LORA_RATES, PROMPT_RATES
from experiments.language.mini_settings import MINI as SHARED
from experiments.training.selection import select_runs, with_select_runs

NAME, VERSION = "coco_caption", 1
PROFILES = ("mini", "small", "paper")
SEEDS = (0, 1, 2, 3, 4)
PAIR = ("zero-init", "zero-init-text")  # what the image adds
PLANNED = ("zero-init", "zero-init-text", "zero-init-queries", "random-init", "lora")

SMALL: dict[str, Any] = {
    "encoder": "small-vit",
    "depths": (1, 2, 3, 4, 5, 6),
    "encoder_device": "cpu",
}
# A named reduced budget for CPUs: the first 300 images of the list with their five captions, 1,500
# examples once, and 200 images captioned. Prompts and gates get the paper's 9e-3 unscaled, as in
# `alpaca_llama`.
REDUCED_DATA = "reduced-300"
REDUCED: dict[str, Any] = {
    "batch_size": 16,
    "epochs": 1.0,
    "warmup_epochs": 0.2,
    "evaluations": 1,
    "token_budget": 2048,
    "eval_tokens": 2048,
    "new_tokens": 24,
    "device": "cpu",
    "precision": "bf16",  # of the frozen weights; what is trained is in float32
}
REDUCED_PROMPT_LR = 9e-3
# On the generated scenes.
MINI = SHARED | {
    "selection_epochs": 0.25,
    "epochs": 0.9,
    "warmup_epochs": 0.09,
    "max_length": 64,
}
MINI_METHODS = (*PAIR, "random-init", "lora")
# The bottleneck is that of `scienceqa`, which fits the paper's 1.8M parameters.
PAPER: dict[str, Any] = {"bottleneck": 54, "token_budget": 2048, "precision": "bf16"}


def plan(profile: str, device: str) -> list[RunSpec]:
    """All runs of a profile, those that are reported before those that choose their rates."""
    if profile == "paper":
        return list(_runs("paper", "coco", "llama-7b", FULL, PAPER))
    return list(_small(device)) if profile == "small" else with_select_runs(_mini(), requires)


def requires(spec: RunSpec) -> list[RunSpec]:
    """The runs that a run's rate is chosen from, by the loss on validation."""
    return select_runs(spec, evaluated_on="val", new_tokens=1)  # their captions decide nothing


def _mini() -> Iterator[RunSpec]:
    """The pocket LLaMA and the pocket ViT, on a CPU whatever the device."""
    for each in _runs("mini", "coco", "pocket-llama", FULL, MINI, MINI_METHODS):
        rates = LORA_RATES if each.method == "lora" else PROMPT_RATES
        yield replace(each, settings=replace(each.settings, peak_lr=None, candidates=rates))


def _small(device: str) -> Iterator[RunSpec]:
    """SmolLM2-135M-Instruct and the small ViT; on a CPU with the reduced budget."""
    name, cpu = language_models.smollm2(), device == "cpu"
    # The paper adapts 30 of 32 layers.
    changes = SMALL | {"num_layers": round(language_models.get(name).layers * 30 / 32)}
    if cpu:
        changes |= REDUCED | {"peak_lr": REDUCED_PROMPT_LR}
    return _runs("small", "flickr8k", name, REDUCED_DATA if cpu else FULL, changes)


def _runs(
    profile: str,
    task: str,
    backbone: str,
    data: str,
    changes: dict[str, Any],
    methods: Sequence[str] = PLANNED,
) -> Iterator[RunSpec]:
    least = 3 if profile == "mini" else 1
    for method in methods:
        for seed in SEEDS if method in PAIR else SEEDS[:least]:
            yield RunSpec(
                experiment=NAME,
                version=VERSION,
                task=task,
                method=method,
                backbone=backbone,
                data=data,
                profile=profile,
                seed=seed,
                settings=replace(Settings(), **(changes | METHODS[method])),
            )


def estimate(spec: RunSpec) -> Estimate:
    """What a run costs, where that has been measured: `mini`, the reduced budget of `small`."""
    if spec.profile == "mini":
        return Estimate((1.2 + 5.7 * spec.settings.epochs) / 3600, 1.1, "measured, 1 core")
    if spec.data != REDUCED_DATA or spec.profile != "small":
        return Estimate(None, None, "not measured")
    return Estimate(0.06, 4.9, "measured, 1 core")
