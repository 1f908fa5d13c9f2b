"""The runs of each profile: the main table, the ablations, and the own split of `small`."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

from experiments.backbones import language_models
from experiments.data.subsets import FULL
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.language.methods import METHODS
from experiments.language.mini_settings import LORA_RATES, PROMPT_RATES
from experiments.language.mini_settings import MINI as SHARED
from experiments.scienceqa.settings import Settings
from experiments.scienceqa.subsets import OWN_SPLIT
from experiments.training.selection import select_runs, with_select_runs

NAME, VERSION = "scienceqa", 1
PROFILES = ("mini", "small", "paper")
# Table 2 is the task of the paper. Tables 4, 5 and 6 are ablations of it on validation; they share
# a run, and are told apart by its layers, its method and its epochs. The own split has images for
# training, which the partial data of `small` have not.
TASK, ABLATION, OWN = "qcm-a", "ablation", "own-split"
TASKS = (TASK, ABLATION, OWN)
SEEDS = (0, 1, 2, 3, 4)
DEPTH = 32  # LLaMA-7B's layers
ABLATED_LAYERS = (10, 20, 30, 32)  # of these
ABLATED_EPOCHS = (15, 30, 60)

# What the paper's main table has, and the pair that shows what the image adds.
PAPER_METHODS = ("zero-init", "zero-init-text", "zero-init-queries", "lora", "lora-text")
# Problems 1 to 1773 have no images for training, so nobody sees one.
INITIALISATIONS = ("zero-init-text", "random-init-text")
TEXT_METHODS = ("zero-init-text", "random-init-text", "lora-text", "frozen")
OWN_METHODS = ("zero-init", "zero-init-text", "random-init", "lora", "lora-text", "frozen")
PAIR = ("zero-init", "zero-init-text")

SMALL_ENCODER: dict[str, Any] = {
    "encoder": "small-vit",
    "depths": (1, 2, 3, 4, 5, 6),
    "encoder_device": "cpu",
}
# Our questions are the official ones without their hints, which the partial data do not have.
OWN_SETTINGS: dict[str, Any] = {"context": "none", "max_length": 256}
# A named reduced budget for CPUs. Prompts and gates get the paper's 9e-3 unscaled, as in
# `alpaca_llama`: at 9e-3 * 16 / 256 a gate would not move in so few steps.
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
    "precision": "bf16",  # of the frozen weights; what is trained is in float32
}
REDUCED_PROMPT_LR = 9e-3
# `mini` on the generated world: 900 questions, of which a third have an image. The pocket LLaMA
# answers in words first.
MINI = SHARED | {"output": "EA", "selection_epochs": 0.4, "max_length": 192}
MINI_EPOCHS = (0.5, 1.0, 2.0)  # in the ratio of the paper's ablation
MINI_ABLATED = 3  # seeds of the ablations, of which each takes a minute of a core; others have five
MINI_METHODS = ("zero-init", "zero-init-text", "random-init", "lora", "frozen")
# LLaMA-7B in bfloat16 beside what 30 adapted layers keep: 11 GB for 2,048 tokens.
# Six depths of 1,024 channels through a bottleneck of 54 are 557,110 parameters, and with prompts
# and gates 1,786,870: the paper's 0.6M and 1.8M.
PAPER: dict[str, Any] = {"bottleneck": 54, "token_budget": 2048, "precision": "bf16"}


def plan(profile: str, device: str) -> list[RunSpec]:
    """All runs of a profile, those that are reported before those that choose their rates."""
    if profile == "paper":
        return list(_paper())
    return list(_small(device)) if profile == "small" else with_select_runs(_mini(), requires)


def requires(spec: RunSpec) -> list[RunSpec]:
    """The runs that a run's rate is chosen from, by the loss on validation.

    An ablation of `mini` has the rate of its method in the main table: what is ablated is the only
    difference.
    """
    if spec.profile == "mini" and spec.task == ABLATION:
        kept = ("num_layers", "epochs", "warmup_epochs", "evaluations")
        same = {name: MINI[name] for name in kept} | {"evaluated_on": "test"}
        spec = replace(spec, task=TASK, settings=replace(spec.settings, **same))
    return select_runs(spec, evaluated_on="val", new_tokens=1)  # their answers decide nothing


def _mini() -> Iterator[RunSpec]:
    """The pocket LLaMA and the pocket ViT, on a CPU whatever the device."""

    def spec(task: str, method: str, seed: int, **changes: Any) -> RunSpec:
        own = MINI | changes
        if method == "frozen":
            del own["peak_lr"]  # nothing is trained
            return _spec("mini", task, method, "pocket-llama", "mini", seed, own)
        rates = LORA_RATES if method.startswith("lora") else PROMPT_RATES
        made = _spec("mini", task, method, "pocket-llama", "mini", seed, own)
        chosen = replace(made.settings, peak_lr=None, candidates=rates)
        return replace(made, settings=chosen)

    for method in MINI_METHODS:
        for seed in SEEDS[:1] if method == "frozen" else SEEDS:
            yield spec(TASK, method, seed)
    layers = [scaled(each, language_models.get("pocket-llama").layers) for each in ABLATED_LAYERS]
    for seed in SEEDS[:MINI_ABLATED]:
        yield from _ablations(spec, "zero-init", "random-init", layers, MINI_EPOCHS, seed)


def _paper() -> Iterator[RunSpec]:
    """LLaMA-7B and CLIP ViT-L/14 on all of ScienceQA."""

    def spec(task: str, method: str, seed: int, **changes: Any) -> RunSpec:
        return _spec("paper", task, method, "llama-7b", FULL, seed, PAPER | changes)

    for method in PAPER_METHODS:
        for seed in SEEDS if method in PAIR else SEEDS[:1]:
            yield spec(TASK, method, seed)
    yield from _ablations(spec, "zero-init", "random-init", ABLATED_LAYERS, ABLATED_EPOCHS)


def _small(device: str) -> Iterator[RunSpec]:
    """SmolLM2-135M-Instruct and the small ViT; ablations on text, on a CPU one seed of them."""
    name = language_models.smollm2()
    depth, cpu = language_models.get(name).layers, device == "cpu"
    data = REDUCED_DATA if cpu else "reduced-1773"
    budget = REDUCED if cpu else {}
    base = SMALL_ENCODER | budget | {"num_layers": scaled(30, depth)}

    def spec(task: str, method: str, seed: int, **changes: Any) -> RunSpec:
        own = base | changes
        if cpu and method != "frozen" and "peak_lr" not in METHODS[method]:
            own = {"peak_lr": REDUCED_PROMPT_LR} | own
        return _spec("small", task, method, name, OWN_SPLIT if task == OWN else data, seed, own)

    for method in OWN_METHODS:
        for seed in SEEDS if method in PAIR else SEEDS[:1]:
            yield spec(OWN, method, seed, **OWN_SETTINGS)
    for method in TEXT_METHODS:
        for seed in SEEDS if method in INITIALISATIONS else SEEDS[:1]:
            yield spec(TASK, method, seed)
    layers = tuple(scaled(each, depth) for each in ABLATED_LAYERS)
    # On a CPU a tenth of the paper's numbers.
    epochs = tuple(each / 10 if cpu else each for each in ABLATED_EPOCHS)
    yield from _ablations(spec, *INITIALISATIONS, layers, epochs)


def _ablations(
    spec: Callable[..., RunSpec],
    zero_init: str,
    random_init: str,
    layers: Sequence[int],
    epochs: Sequence[float],
    seed: int = 0,
) -> Iterator[RunSpec]:
    """Tables 4, 5 and 6, one seed: the run that they share comes once."""

    def ablation(method: str, **changes: Any) -> RunSpec:
        return spec(ABLATION, method, seed, evaluated_on="val", **changes)

    for each in layers:
        yield ablation(zero_init, num_layers=each)
    yield ablation(random_init)
    for share in (epochs[0], epochs[2]):  # between them are those of all other runs
        yield ablation(zero_init, epochs=float(share), evaluations=max(1, round(share)))


def scaled(layers: int, depth: int) -> int:
    """The same share of `depth` layers as `layers` are of LLaMA-7B's 32, at least one.

    What leaves layers as they are there leaves at least one here: 30 of 32 are 5 of 6.
    """
    most = depth if layers == DEPTH else max(1, depth - 1)
    return min(most, max(1, round(depth * layers / DEPTH)))


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
        settings=replace(Settings(), **(changes | METHODS[method])),
    )


def estimate(spec: RunSpec) -> Estimate:
    """What a run costs, where that has been measured: `mini`, the reduced budgets of `small`."""
    if spec.profile == "mini":
        around = 4.5 if spec.settings.phase == "final" else 2.6
        return Estimate((around + 4 * spec.settings.epochs) / 3600, 1.1, "measured, 1 core")
    seconds = {OWN_SPLIT: (75, 105), REDUCED_DATA: (130, 75)}.get(spec.data)
    if seconds is None or spec.profile != "small":
        return Estimate(None, None, "not measured")
    around, epoch = seconds  # loading and answering, and an epoch of training
    return Estimate((around + epoch * spec.settings.epochs) / 3600, 4.4, "measured, 1 core")
