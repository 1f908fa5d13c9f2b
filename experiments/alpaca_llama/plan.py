"""The runs of each profile: recipes, methods and seeds."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from experiments.alpaca_llama.settings import Settings
from experiments.backbones import language_models
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.training.selection import select_runs, with_select_runs

NAME, VERSION = "alpaca_llama", 1
# One task, Alpaca, in two recipes: the paper's text and the released script.
TASK, TASK_RELEASED = "instruct", "instruct-released"
PROFILES = ("mini", "small", "paper")

# What each method changes. The paper does not define "rand-init" (its Table 5): here are both
# readings, one softmax without gate, and the gated one with its gates wide open.
METHODS: dict[str, dict[str, Any]] = {
    "zero-init": {},
    "random-init": {"softmax": "joint"},
    "random-init-gate": {"gate_init": 1.0, "gate_activation": "identity"},
    "adaption-prompt": {"gate_per": "layer", "gate_activation": "identity"},
    "lora": {"peak_lr": 3e-4},  # Alpaca-LoRA's default
    "full": {"peak_lr": 2e-5},  # Alpaca's
    "frozen": {"epochs": 0.0, "warmup_epochs": 0.0},
}
# What these train must be float32, and their code takes no bfloat16 weights beside that.
AUTOCAST = ("full", "adaption-prompt")

# The released script, where it differs from the paper (batch 64, learning rate 9e-3 for 256).
RELEASED = {
    "batch_size": 32,  # 4 a GPU on 8 GPUs
    "peak_lr": 9e-3 * 32 / 256,
    "loss_reduction": "micro_batch_mean",
    "token_budget": None,
    "micro_batch_size": 4,
}
# A named reduced budget for CPUs: one epoch over 640 records, 40 steps of 16, the same share of
# warm-up as in the paper.
REDUCED = {
    "batch_size": 16,
    "epochs": 1.0,
    "warmup_epochs": 0.4,
    "token_budget": 2048,
    "eval_tokens": 2048,
    "evaluations": 1,
    "new_tokens": 64,
    "answered": 16,
    "user_oriented": False,
    "threads": 2,
    "device": "cpu",
    "precision": "fp32",
}
# Padded tokens of a micro-batch for LLaMA-7B in bfloat16: what a layer keeps for its backward pass
# is about 180 kB a token, times 30 adapted layers and 2048 tokens 11 GB, beside 13.5 GB of weights.
PAPER = {"token_budget": 2048}
REDUCED_DATA = "reduced-640"
# The paper's scaling would give 9e-3 * 16 / 256 = 5.6e-4, at which AdamW moves a gate by no more
# than 0.02 in 40 steps. So prompts and gates get the paper's 9e-3 unscaled; LoRA and full
# fine-tuning keep their papers' rates. Declared, not tuned: one value for every variant of prompts.
REDUCED_PROMPT_LR = 9e-3
SEEDS = (0, 1, 2)

# The pocket LLaMA on the instructions of the generated world: 1,000 records, 56 steps of 16.
MINI: dict[str, Any] = {
    "num_layers": 5,  # of 6: the lowest stays as it is, as the lowest two of the paper's 32
    "selection_seed": 100,  # of no run that is reported
    "selection_epochs": 0.4,
    "batch_size": 16,
    "epochs": 0.9,
    "warmup_epochs": 0.09,
    "token_budget": 1024,  # two micro-batches, the shorter texts apart
    "eval_tokens": 4096,
    "evaluations": 1,
    "max_length": 128,
    "new_tokens": 24,
    "answered": 48,
    "user_oriented": False,
    "device": "cpu",
    "precision": "fp32",
}
MINI_STEPS = 62  # of an epoch
# The peak rates that `mini` chooses from, as many for every method and three times from one to the
# next, about the one that the kind of method had the lowest development loss with.
PROMPT_RATES = (0.1, 0.3, 1.0)
CANDIDATES: dict[str, tuple[float, ...]] = {
    "zero-init": PROMPT_RATES,
    "random-init": PROMPT_RATES,
    "random-init-gate": PROMPT_RATES,
    "lora": (3e-3, 1e-2, 3e-2),
    "full": (1e-3, 3e-3, 1e-2),
}
MINI_SEEDS = (0, 1, 2, 3, 4)
CLAIMED = ("zero-init", "random-init", "random-init-gate", "lora")  # compared in the paper's claims


def plan(profile: str, device: str) -> list[RunSpec]:
    """All runs of a profile, those that are reported before those that choose their rates."""
    if profile == "paper":
        return list(_paper())
    return list(_small(device)) if profile == "small" else with_select_runs(_mini(), requires)


def requires(spec: RunSpec) -> list[RunSpec]:
    """The runs that a run's rate is chosen from: validated on `development`, asked nothing."""
    return select_runs(
        spec, validate_on="development", answered=0, user_oriented=False, vicuna=False
    )


def _mini() -> Iterator[RunSpec]:
    """The pocket LLaMA, on a CPU whatever else there is: a GPU would wait for it.

    Not PEFT's form of the method, `adaption-prompt`: no claim is about it.
    """
    for method in (*CANDIDATES, "frozen"):
        own = MINI | METHODS[method]
        seeds = 1
        if method in CANDIDATES:  # all but the frozen backbone, of which nothing is trained
            own |= {"peak_lr": None, "candidates": CANDIDATES[method]}
            seeds = 5 if method in CLAIMED else 1
        for seed in MINI_SEEDS[:seeds]:
            yield _spec("mini", "pocket-llama", "mini", method, seed, own)


def _paper() -> Iterator[RunSpec]:
    """LLaMA-7B. Full fine-tuning is not planned: it needs 112 GB for weights, gradients and AdamW
    in float32, so sharding over GPUs, which the suite does not do; the paper's own Alpaca row is
    the comparison.
    """
    for method, changes in METHODS.items():
        if method == "full":
            continue
        precision = "bf16-autocast" if method in AUTOCAST else "bf16"
        for seed in SEEDS if method != "frozen" else SEEDS[:1]:
            yield _spec(
                "paper",
                "llama-7b",
                "full",
                method,
                seed,
                changes | {"precision": precision, "vicuna": True},
            )
    for seed in SEEDS:
        yield replace(
            _spec("paper", "llama-7b", "full", "zero-init", seed, RELEASED), task=TASK_RELEASED
        )


def _small(device: str) -> Iterator[RunSpec]:
    """SmolLM2-135M-Instruct; on a CPU with the reduced budget."""
    name = language_models.smollm2()
    # The paper adapts 30 of 32 layers.
    layers = {"num_layers": round(language_models.get(name).layers * 30 / 32)}
    for method, changes in METHODS.items():
        several = method in ("zero-init", "random-init") or (
            device == "cuda" and method != "frozen"
        )
        for seed in SEEDS if several else SEEDS[:1]:
            if device == "cpu":
                own = REDUCED | {"peak_lr": REDUCED_PROMPT_LR} | layers | changes
                yield _spec("small", name, REDUCED_DATA, method, seed, own)
            else:
                precision = {"precision": "bf16-autocast"} if method in AUTOCAST else {}
                yield _spec("small", name, "full", method, seed, layers | changes | precision)


def _spec(
    profile: str, backbone: str, data: str, method: str, seed: int, changes: dict[str, Any]
) -> RunSpec:
    return RunSpec(
        experiment=NAME,
        version=VERSION,
        task=TASK,
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
        measured = {"frozen": (0.03, 2.1), "full": (0.19, 5.5)}
        hours, memory_gb = measured.get(spec.method, (0.12, 3.9))
        return Estimate(hours, memory_gb, "measured, 2 cores")
    if spec.profile == "mini":
        step = 0.14 if spec.method == "full" else 0.102
        seconds = step * spec.settings.epochs * MINI_STEPS
        seconds += 0.7 if spec.settings.phase == "select" else 1.9
        return Estimate(seconds / 3600, 1.2, "measured, 1 core")
    if spec.profile == "paper" and spec.settings.device == "cuda":
        return Estimate(8.0, 21.0, "paper, 8 A100")
    return Estimate(None, None, "not measured")
