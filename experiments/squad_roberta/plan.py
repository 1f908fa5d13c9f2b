"""The runs of each profile: tasks, methods, seeds, and the runs that a rate is chosen from."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.data.subsets import FULL
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.subsets import TASKS
from experiments.training.selection import with_select_runs

NAME, VERSION = "squad_roberta", 1
PROFILES = ("mini", "small", "paper")
V1, V2 = TASKS
REDUCED_DATA = "reduced-2000"

# P-tuning v2 is the random-init row too: one soft-max over prefix and words, no gate.
METHODS = ("full", "prompt-tuning", "p-tuning-v2", "lora", "zero-init", "head")
SEVERAL = ("p-tuning-v2", "zero-init")  # the pair that the paper's claim is about
SEEDS = (0, 1, 2, 3, 4)

# What the paper profile changes: P-tuning v2's dropout is the encoder's too; prompts in the input
# and the bare head get its rate [ours]; LoRA the rate of its scripts for RoBERTa-large; full
# fine-tuning what transformers' SQuAD example has, with a warm-up [ours].
PAPER: dict[str, dict[str, Any]] = {
    "full": {"peak_lr": 3e-5, "batch_size": 12, "epochs": 2.0, "warmup_epochs": 0.12},
    "prompt-tuning": {},
    "p-tuning-v2": {"hidden_dropout": 0.2},
    "lora": {"peak_lr": 3e-4, "warmup_epochs": 0.5},
    "zero-init": {"hidden_dropout": 0.2},
    "head": {},
}
PAPER_V2 = {"prompt_length": 8, "epochs": 10.0}

# The peak rates that the profile small chooses from, the same number for every method.
CANDIDATES: dict[str, tuple[float, ...]] = {
    "full": (5e-5, 2e-4, 8e-4),
    "prompt-tuning": (5e-3, 2e-2, 8e-2),
    "p-tuning-v2": (5e-3, 2e-2, 8e-2),
    "lora": (1e-3, 4e-3, 1.6e-2),
    "zero-init": (5e-3, 2e-2, 8e-2),
    "head": (5e-3, 2e-2, 8e-2),
}
SMALL: dict[str, Any] = {
    "peak_lr": None,
    "prefix_dropout": 0.1,  # as the encoder's own; P-tuning v2's 0.2 is for ten times the epochs
    "batch_size": 32,
    "epochs": 3.0,
    "warmup_epochs": 0.3,
    "selection_epochs": 0.25,
    "token_budget": 8192,
    "precision": "fp32",
}
# A named reduced budget for CPUs: 2,000 questions in steps of P-tuning v2's 8 windows, 7 to 12
# minutes of one core. All methods had 1.5 epochs at first; prefixes, LoRA and the bare head have
# more, because after 1.5 the training loss of P-tuning v2 had fallen by 15 % only.
REDUCED: dict[str, Any] = {
    "batch_size": 8,
    "token_budget": 2048,
    "eval_tokens": 4096,
    "device": "cpu",
}
REDUCED_EPOCHS = {"full": 1.5, "prompt-tuning": 1.5}
OTHER_EPOCHS = 2.8

# The pocket RoBERTa on the paragraphs of the generated world, each of which is one window, in steps
# of P-tuning v2's 8 windows: 100 of them in v1.1, 151 in v2.0.
MINI: dict[str, Any] = {
    "peak_lr": None,
    "selection_seed": 100,  # of no run that is reported
    # Long enough to be past the plateau on which every prefix rests for its first 40 to 80 steps.
    "selection_epochs": 0.65,
    "prompt_length": PAPER_V2["prompt_length"],
    "prefix_dropout": 0.0,  # as the encoder's own; no window is seen twice
    "epochs": 0.85,
    "warmup_epochs": 0.085,
    "token_budget": 1024,
    "eval_tokens": 4096,
    "max_length": 128,
    "stride": 16,
    "device": "cpu",
    "precision": "fp32",
}
MINI_STEPS = {V1: 118, V2: 178}  # of an epoch
# As many for every method and three times from one to the next, about the one that the kind of
# method had the lowest validation loss with.
PREFIX_RATES = (0.03, 0.1, 0.3)
MINI_CANDIDATES: dict[str, tuple[float, ...]] = {
    "full": (3e-4, 1e-3, 3e-3),
    "prompt-tuning": (0.01, 0.03, 0.1),
    "p-tuning-v2": PREFIX_RATES,
    "lora": (1e-3, 3e-3, 1e-2),
    "zero-init": PREFIX_RATES,
    "head": (0.01, 0.03, 0.1),
}


def plan(profile: str, device: str) -> list[RunSpec]:
    """All runs of a profile, those that are reported before those that choose their rates.

    On a CPU `small` is v1.1 alone, with the reduced budget.
    """
    if profile == "paper":
        return with_select_runs(_paper())
    return with_select_runs(_small(device) if profile == "small" else _mini())


def _mini() -> Iterator[RunSpec]:
    """The pocket RoBERTa, on a CPU whatever else there is: a GPU would wait for it.

    Of v2.0 there is the pair alone: it takes twice the steps before anything but "no answer" is
    learned, and the profile has minutes.
    """
    for task in TASKS:
        for method in METHODS if task == V1 else SEVERAL:
            changes = MINI | {"candidates": MINI_CANDIDATES[method]}
            for seed in SEEDS if task == V1 and method in SEVERAL else SEEDS[:3]:
                yield _spec("mini", task, method, "pocket-roberta", FULL, seed, changes)


def _paper() -> Iterator[RunSpec]:
    """RoBERTa-large, with rates from elsewhere: choosing would double the cost."""
    for task in TASKS:
        for method, own in PAPER.items():
            changes = (PAPER_V2 if task == V2 else {}) | own
            for seed in SEEDS if method in SEVERAL else SEEDS[:3]:
                yield _spec("paper", task, method, "roberta-large", FULL, seed, changes)


def _small(device: str) -> Iterator[RunSpec]:
    """MiniLM-L6, which is in a package and in the hub."""
    reduced = device == "cpu"
    for task in TASKS:
        if reduced and task == V2:
            continue
        for method in METHODS:
            changes = SMALL | {"candidates": CANDIDATES[method]}
            if reduced:
                epochs = REDUCED_EPOCHS.get(method, OTHER_EPOCHS)
                changes |= REDUCED | {"epochs": epochs, "warmup_epochs": epochs / 10}
            if task == V2:
                changes |= {"prompt_length": PAPER_V2["prompt_length"]}
            data = REDUCED_DATA if reduced else FULL
            seeds = SEEDS if method in SEVERAL else SEEDS[:3]
            for seed in SEEDS[:1] if reduced else seeds:
                yield _spec("small", task, method, "minilm-l6", data, seed, changes)


def _spec(
    profile: str,
    task: str,
    method: str,
    backbone: str,
    data: str,
    seed: int,
    changes: dict[str, Any],
) -> RunSpec:
    return RunSpec(
        experiment=NAME,
        version=VERSION,
        task=task,
        method=method,
        backbone=backbone,
        data=data,
        profile=profile,
        seed=seed,
        settings=replace(Settings(), **changes),
    )


def estimate(spec: RunSpec) -> Estimate:
    """What a run costs, as far as anybody has measured it."""
    if spec.data == REDUCED_DATA:
        training = {"full": 5.6, "head": 2.3, "prompt-tuning": 4.7}.get(spec.method, 4.1)
        evaluation = 0.4 if spec.settings.phase == "select" else 1.2
        minutes = training * spec.settings.epochs + evaluation
        memory_gb = 1.9 if spec.method == "full" else 1.5
        return Estimate(minutes / 60, memory_gb, "measured, 1 core")
    if spec.profile == "mini":
        steps = spec.settings.epochs * MINI_STEPS[spec.task]
        step = 0.057 if spec.method == "full" else 0.036
        seconds = step * steps + (0.7 if spec.settings.phase == "select" else 1.2)
        return Estimate(seconds / 3600, 1.2, "measured, 1 core")
    return Estimate(None, None, "not measured")
