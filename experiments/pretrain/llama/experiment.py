"""The experiment `pretrain_llama`: the stand-in for LLaMA in the profile `mini`."""

from dataclasses import replace

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.pretrain.llama.run import RECIPE, pretraining, requires, run
from experiments.pretrain.llama.task import STAGES, Settings

HOURS = {
    "library": 0.15,
    "drills": 0.03,
    "lessons": 0.28,
    "letters": 0.06,
    "review": 0.18,
    "conclusions": 0.10,
}


def plan(profile: str, device: str) -> list[RunSpec]:
    """The runs of all stages, the last of which makes the weights; on a GPU they are other runs."""
    settings = Settings(device="cuda" if device == "cuda" else "cpu")
    return [pretraining(stage, settings=settings) for stage in STAGES]


def estimate(spec: RunSpec) -> Estimate:
    """The cost of a stage."""
    return Estimate(HOURS[spec.task], 1.2, "measured, 1 core")


EXPERIMENT = replace(
    RECIPE.as_experiment(
        "a pocket LLaMA from scratch on the generated world, the backbone of the profile mini",
        run,
        Estimate(sum(HOURS.values()), 1.2, "measured, 1 core"),
    ),
    tasks=tuple(STAGES),
    plan=plan,
    estimate=estimate,
    requires=requires,
)
