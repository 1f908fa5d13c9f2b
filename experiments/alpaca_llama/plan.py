"""The runs of each profile: methods, seeds and recipes."""

from collections.abc import Iterator
from typing import Any

from experiments.alpaca_llama.settings import Settings
from experiments.backbones import language_models
from experiments.harness.rehearsal import rehearsed_profile
from experiments.harness.spec import RunSpec
from experiments.training.length import Trials
from experiments.training.recipe import Recipe
from experiments.training.selection import choose_from, select_runs, with_select_runs

NAME, VERSION = "alpaca_llama", 1
# Alpaca by the paper's text and by the released script.
TASK, TASK_RELEASED = "instruct", "instruct-released"
PROFILES = ("mini", "small", "paper")

# What each method changes. The paper does not define "rand-init" (its Table 5), so both readings
# are here: one softmax without a gate, and gates that start wide open.
METHODS: dict[str, dict[str, Any]] = {
    "zero-init": {},
    "random-init": {"softmax": "joint"},
    "random-init-gate": {"gate_init": 1.0, "gate_activation": "identity"},
    "adaption-prompt": {"gate_per": "layer", "gate_activation": "identity"},
    "lora": {"peak_lr": 3e-4},  # Alpaca-LoRA's default
    "full": {"peak_lr": 2e-5},  # Alpaca's
    "frozen": {"epochs": 0.0, "warmup_epochs": 0.0},
}
# Their trained weights must be float32, and their code does not mix these with bfloat16 ones.
AUTOCAST = ("full", "adaption-prompt")
GPU_METHODS = METHODS | {
    method: METHODS[method] | {"precision": "bf16-autocast"} for method in AUTOCAST
}
# The released script, where it differs from the paper (batch 64, learning rate 9e-3 for 256).
RELEASED: dict[str, Any] = {
    "batch_size": 32,  # 4 a GPU on 8 GPUs
    "peak_lr": 9e-3 * 32 / 256,
    "loss_reduction": "micro_batch_mean",
    "token_budget": None,
    "micro_batch_size": 4,
}
# Seeds of each method; full fine-tuning, the paper's Alpaca row, where there are GPUs to shard it.
PAPER_PLANNED = dict.fromkeys(METHODS, 3) | {"frozen": 1}

# A reduced budget for CPUs: one epoch over 640 records, 40 steps of 16, with the paper's share of
# warm-up, in the precisions of a GPU; 10 minutes of one core. Rates are chosen from four, a factor
# of three apart: for prompts from the paper's, unscaled, on, since AdamW moves nothing by more than
# 40 times the rate; for `full` from Alpaca's; for LoRA around the best of its first grid.
REDUCED_DATA = "reduced-640"
REDUCED: dict[str, Any] = {
    "selection_seed": 100,  # never reported
    "selection_epochs": 0.5,
    "batch_size": 16,
    "epochs": 1.0,
    "warmup_epochs": 0.4,
    "token_budget": 2048,
    "eval_tokens": 2048,
    "evaluations": 1,
    "new_tokens": 64,
    "answered": 16,
    "user_oriented": False,
    "threads": 1,
    "device": "cpu",
    "precision": "bf16",
}
REDUCED_RATES = (9e-3, 3e-2, 9e-2, 0.3)
REDUCED_CANDIDATES: dict[str, tuple[float, ...]] = {
    "zero-init": REDUCED_RATES,
    "random-init": REDUCED_RATES,
    "random-init-gate": (3e-2, 9e-2, 0.3, 0.9),  # 0.3 was the best and at the edge
    "adaption-prompt": REDUCED_RATES,
    "lora": (1e-3, 3e-3, 9e-3, 3e-2),
    "full": (2e-5, 6e-5, 2e-4, 6e-4),
}
REDUCED_METHODS = GPU_METHODS | {
    method: GPU_METHODS[method] | choose_from(rates) for method, rates in REDUCED_CANDIDATES.items()
}
REDUCED_PLANNED = dict.fromkeys(REDUCED_CANDIDATES, 5) | {"frozen": 1}
SMALL_PLANNED = dict.fromkeys(METHODS, 3) | {"frozen": 1}

# The pocket LLaMA on 1,000 generated instructions: 62 steps of 16 an epoch.
MINI: dict[str, Any] = {
    "num_layers": 5,  # of 6: the lowest stays as it is, like the lowest two of the paper's 32
    "selection_seed": 100,  # never reported
    "selection_epochs": 4.0,
    "batch_size": 16,
    "epochs": 8.0,  # by the rule of `training.length`
    "warmup_epochs": 0.8,
    "token_budget": 1024,  # two micro-batches, sorted by length
    "eval_tokens": 4096,
    "evaluations": 1,
    "max_length": 128,
    "new_tokens": 24,
    "answered": 48,
    "user_oriented": False,
    "device": "cpu",
    "precision": "fp32",
}
# Why claims do not hold in `mini`. With 40 prompts zero-init has as many parameters as LoRA;
# without tanh it is `random-init-gate` but for where its gates start; and a tenth of its rate moves
# the backbone less.
FOLLOW_UPS: dict[str, dict[str, Any]] = {
    "zero-init-40": {"prompt_length": 40},
    "zero-init-no-tanh": {"gate_activation": "identity"},
    "zero-init-low-rate": {"peak_lr": 0.03},
}
# Every trained method chooses from as many peak rates, a factor of three apart. No claim is about
# `adaption-prompt`.
PROMPT_RATES = (0.03, 0.1, 0.3, 1.0)
CANDIDATES: dict[str, tuple[float, ...]] = {
    "zero-init": PROMPT_RATES,
    "zero-init-40": PROMPT_RATES,
    "zero-init-no-tanh": PROMPT_RATES,
    "random-init": PROMPT_RATES,
    "random-init-gate": PROMPT_RATES,
    "lora": (1e-3, 3e-3, 1e-2, 3e-2),
    "full": (3e-4, 1e-3, 3e-3, 1e-2),
}
MINI_METHODS = METHODS | FOLLOW_UPS
MINI_METHODS |= {
    method: MINI_METHODS[method] | choose_from(rates) for method, rates in CANDIDATES.items()
}
MINI_PLANNED = dict.fromkeys((*CANDIDATES, "zero-init-low-rate"), 5) | {"frozen": 1}

MINI_RECIPE = Recipe(NAME, VERSION, "mini", "pocket-llama", "mini", Settings(**MINI), MINI_METHODS)
MINI_TRIALS = Trials(
    MINI_RECIPE,
    tasks=(TASK,),
    score="val_loss",
    better="lower",
    rates={"zero-init": {0.3: 8, 0.1: 4}, "lora": {1e-2: 8, 3e-3: 4}},
    lengths=(1, 2, 4, 8),
    settings={"validate_on": "development", "answered": 0},
)


def plan(profile: str, device: str) -> list[RunSpec]:
    """Return all runs of a profile, final runs before select runs."""
    if profile == "mini":
        return [*with_select_runs(_mini(), requires), *MINI_TRIALS.runs()]
    return list(_paper() if profile == "paper" else _small(device))


def requires(spec: RunSpec) -> list[RunSpec]:
    """Return the select runs of a run: scored by the development loss, without answers."""
    return select_runs(
        spec,
        validate_on="development",
        answered=0,
        user_oriented=False,
        vicuna=False,
        candidates=(),
    )


def in_shards(spec: RunSpec) -> bool:
    """Whether several GPUs train the run in shards: LLaMA-7B, gradients and AdamW take 108 GB."""
    return spec.method == "full" and rehearsed_profile(spec.profile) == "paper"


def _mini() -> Iterator[RunSpec]:
    """The pocket LLaMA, on a CPU whatever the device: it is too small to be faster on a GPU."""
    return MINI_RECIPE.runs(TASK, MINI_PLANNED)


def _paper() -> Iterator[RunSpec]:
    """LLaMA-7B, by the paper's text and by the released script."""
    recipe = Recipe(NAME, VERSION, "paper", "llama-7b", "full", Settings(), GPU_METHODS)
    yield from recipe.runs(TASK, PAPER_PLANNED, vicuna=True)
    yield from recipe.runs(TASK_RELEASED, {"zero-init": 3}, **RELEASED)


def _small(device: str) -> Iterator[RunSpec]:
    """SmolLM2-135M-Instruct; on a CPU with the reduced budget."""
    name = language_models.smollm2()
    # The paper adapts 30 of 32 layers.
    layers: dict[str, Any] = {"num_layers": round(language_models.get(name).layers * 30 / 32)}
    if device == "cpu":
        settings = Settings(**REDUCED | layers)
        recipe = Recipe(NAME, VERSION, "small", name, REDUCED_DATA, settings, REDUCED_METHODS)
        return iter(with_select_runs(recipe.runs(TASK, REDUCED_PLANNED), requires))
    recipe = Recipe(NAME, VERSION, "small", name, "full", Settings(**layers), GPU_METHODS)
    return recipe.runs(TASK, SMALL_PLANNED)
