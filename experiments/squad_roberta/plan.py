"""The runs of each profile: tasks, methods, seeds and candidate learning rates."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.backbones import text_encoders
from experiments.data.subsets import FULL
from experiments.harness.experiment import Models
from experiments.harness.registry import InvalidChoiceError
from experiments.harness.spec import RunSpec
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.subsets import TASKS
from experiments.training.length import Trials
from experiments.training.recipe import Recipe
from experiments.training.selection import choose_from, select_runs, with_select_runs

NAME, VERSION = "squad_roberta", 1
PROFILES = ("mini", "small", "paper")
V1, V2 = TASKS

# P-tuning v2 is the random-init row too: one softmax over prefix and words, no gate.
METHODS = ("full", "prompt-tuning", "p-tuning-v2", "lora", "zero-init", "head")
# Seeds of each method; the paper's claim compares the two with five.
PLANNED = dict.fromkeys(METHODS, 3) | {"p-tuning-v2": 5, "zero-init": 5}

# P-tuning v2 sets the encoder's dropout too; prompt tuning and the bare head get its rate [ours];
# LoRA the rate of its scripts for RoBERTa-large; full fine-tuning that of transformers' SQuAD
# example, with a warm-up [ours]. No rate is chosen, which would double the cost.
PAPER_METHODS: dict[str, dict[str, Any]] = {
    "full": {"peak_lr": 3e-5, "batch_size": 12, "epochs": 2.0, "warmup_epochs": 0.12},
    "prompt-tuning": {},
    "p-tuning-v2": {"hidden_dropout": 0.2},
    "lora": {"peak_lr": 3e-4, "warmup_epochs": 0.5},
    "zero-init": {"hidden_dropout": 0.2},
    "head": {},
}
V2_PROMPTS = 8  # P-tuning v2's, for v2.0
PAPER: dict[str, dict[str, Any]] = {V1: {}, V2: {"prompt_length": V2_PROMPTS, "epochs": 10.0}}

# Every method chooses from as many peak rates.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "full": (5e-5, 2e-4, 8e-4),
    "prompt-tuning": (5e-3, 2e-2, 8e-2),
    "p-tuning-v2": (5e-3, 2e-2, 8e-2),
    "lora": (1e-3, 4e-3, 1.6e-2),
    "zero-init": (5e-3, 2e-2, 8e-2),
    "head": (5e-3, 2e-2, 8e-2),
}
SMALL_METHODS = {method: choose_from(rates) for method, rates in CANDIDATES.items()}
SMALL: dict[str, Any] = {
    "prefix_dropout": 0.1,  # as the encoder's own; P-tuning v2's 0.2 is for ten times the epochs
    "batch_size": 32,
    "epochs": 3.0,
    "warmup_epochs": 0.3,
    "selection_epochs": 0.25,
    "token_budget": 8192,
    "precision": "fp32",
}
# A reduced budget for CPUs: 2,000 questions of v1.1 whose paragraphs fit into one short window, in
# steps of P-tuning v2's 8 windows; what claims compare.
REDUCED_DATA = "reduced-2000-short"
REDUCED: dict[str, Any] = {
    "selection_seed": 100,  # never reported
    "selection_epochs": 1.0,
    "batch_size": 8,
    "epochs": 2.0,
    "warmup_epochs": 0.2,
    "token_budget": 2048,
    "eval_tokens": 4096,
    "max_length": 128,
    "stride": 48,
    "device": "cpu",
    "precision": "bf16-autocast",
}
# Every method chooses from as many, a factor of two apart.
REDUCED_PREFIX_RATES = (0.01, 0.02, 0.04, 0.08)
REDUCED_CANDIDATES: dict[str, tuple[float, ...]] = {
    "full": (5e-5, 1e-4, 2e-4, 4e-4),
    "p-tuning-v2": REDUCED_PREFIX_RATES,
    "lora": (1e-3, 2e-3, 4e-3, 8e-3),
    "zero-init": REDUCED_PREFIX_RATES,
}
REDUCED_METHODS = {method: choose_from(rates) for method, rates in REDUCED_CANDIDATES.items()}

# The pocket RoBERTa on generated paragraphs of one window each, in steps of P-tuning v2's 8
# windows: 118 steps an epoch in v1.1, 178 in v2.0.
MINI: dict[str, Any] = {
    "selection_seed": 100,  # never reported
    "selection_epochs": 4.0,
    "prompt_length": V2_PROMPTS,
    "prefix_dropout": 0.0,  # as the encoder's own
    "epochs": 8.0,  # by the rule of `training.length`
    "warmup_epochs": 0.8,
    "token_budget": 1024,
    "eval_tokens": 4096,
    "max_length": 128,
    "stride": 16,
    "device": "cpu",
    "precision": "fp32",
}
# Every method chooses from as many, a factor of three apart.
PREFIX_RATES = (0.01, 0.03, 0.1, 0.3)
MINI_CANDIDATES: dict[str, tuple[float, ...]] = {
    "full": (1e-4, 3e-4, 1e-3, 3e-3),
    "p-tuning-v2": PREFIX_RATES,
    "lora": (3e-4, 1e-3, 3e-3, 1e-2),
    "zero-init": PREFIX_RATES,
}
# P-tuning v2's prompts with zero-init's own softmax, and gates that start at 1: is it by the gates
# at zero that P-tuning v2 leads?
FOLLOW_UPS: dict[str, tuple[float, ...]] = {"random-init-gate": PREFIX_RATES}
MINI_METHODS = {
    method: choose_from(rates) for method, rates in (MINI_CANDIDATES | FOLLOW_UPS).items()
}
# On v2.0 the lowest of these was the best for two methods, which get lower ones there.
LOWER = {"full": (3e-5, 1e-4, 3e-4, 1e-3), "zero-init": (3e-3, 0.01, 0.03, 0.1)}
MINI_METHODS_OF = {
    V1: MINI_METHODS,
    V2: MINI_METHODS | {method: choose_from(rates) for method, rates in LOWER.items()},
}
# What claims compare. Five seeds left all four of them open; there are twenty since.
MINI_SEEDS = 20
MINI_PLANNED = {
    V1: dict.fromkeys(MINI_CANDIDATES | FOLLOW_UPS, MINI_SEEDS),
    V2: dict.fromkeys(("full", "p-tuning-v2", "zero-init"), MINI_SEEDS),
}

MINI_RECIPE = Recipe(
    *(NAME, VERSION, "mini", "pocket-roberta", FULL, Settings(**MINI), MINI_METHODS),
    seeds=range(MINI_SEEDS),
)
MINI_TRIALS = Trials(
    MINI_RECIPE,
    tasks=(V1,),
    score="f1",
    better="higher",
    rates={"zero-init": {0.03: 8, 0.1: 8}, "lora": {3e-3: 8, 1e-2: 4, 1e-3: 4}},
    lengths=(1, 2, 4, 8),
)


def plan(profile: str, device: str) -> list[RunSpec]:
    """Return all runs of a profile, final runs before select runs.

    On a CPU `small` is v1.1 alone, with the reduced budget.
    """
    if profile == "paper":
        return with_select_runs(_paper(), requires)
    if profile == "small":
        return with_select_runs(_small(device), requires)
    return [*with_select_runs(_mini(), requires), *MINI_TRIALS.runs()]


def requires(spec: RunSpec) -> list[RunSpec]:
    """Return the select runs of a run."""
    return select_runs(spec, candidates=())


def later(spec: RunSpec) -> bool:
    """Say whether the first stage of `mini` leaves the run out: v2.0 takes longer than v1.1."""
    return spec.profile == "mini" and spec.task == V2


def with_models(spec: RunSpec, models: Models) -> RunSpec:
    """Return the run with another encoder; windows and soft prompts fit its positions."""
    if models.encoder is not None:
        raise InvalidChoiceError(f"{NAME} has no images, so it takes no --encoder")
    if models.template is not None or models.backbone is None:
        raise InvalidChoiceError(f"{NAME} has no prompts in words, so it takes no --template")
    name, settings = text_encoders.reader(models.backbone), spec.settings
    longest = text_encoders.positions(name)
    if longest is None:
        return replace(spec, backbone=name)
    if spec.method == "prompt-tuning":
        longest -= settings.prompt_length
    shorter = replace(settings, max_length=min(longest, settings.max_length))
    return replace(spec, backbone=name, settings=shorter)


def _mini() -> Iterator[RunSpec]:
    """The pocket RoBERTa, on a CPU whatever the device: it is too small to be faster on a GPU."""
    for task, planned in MINI_PLANNED.items():
        yield from replace(MINI_RECIPE, methods=MINI_METHODS_OF[task]).runs(task, planned)


def _paper() -> Iterator[RunSpec]:
    """RoBERTa-large, with rates from elsewhere."""
    for task, changes in PAPER.items():
        settings = Settings(**changes)
        recipe = Recipe(NAME, VERSION, "paper", "roberta-large", FULL, settings, PAPER_METHODS)
        yield from recipe.runs(task, PLANNED)


def _small(device: str) -> Iterator[RunSpec]:
    """MiniLM-L6; on a CPU with the reduced budget."""
    if device == "cpu":
        settings = Settings(**SMALL | REDUCED)
        name = "minilm-l6"
        recipe = Recipe(NAME, VERSION, "small", name, REDUCED_DATA, settings, REDUCED_METHODS)
        yield from recipe.runs(V1, dict.fromkeys(REDUCED_CANDIDATES, 5))
        return
    recipe = Recipe(NAME, VERSION, "small", "minilm-l6", FULL, Settings(**SMALL), SMALL_METHODS)
    yield from recipe.runs(V1, PLANNED)
    yield from recipe.runs(V2, PLANNED, prompt_length=V2_PROMPTS)
