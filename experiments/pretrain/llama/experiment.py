"""The experiment `pretrain_llama`: not in the paper, but what stands in for LLaMA in `mini`."""

from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.spec import RunSpec
from experiments.pretrain.llama import run
from experiments.pretrain.llama.task import Settings

HOURS = {
    "library": 0.15,
    "drills": 0.03,
    "lessons": 0.28,
    "letters": 0.06,
    "review": 0.18,
    "conclusions": 0.10,
}


def plan(profile: str, device: str) -> list[RunSpec]:
    """The runs of the stages, the last of which has the weights; on a GPU they are other runs."""
    settings = Settings(device="cuda" if device == "cuda" else "cpu")
    return [run.pretraining(stage, settings=settings) for stage in run.TASKS]


def estimate(spec: RunSpec) -> Estimate:
    """What a stage costs."""
    return Estimate(HOURS[spec.task], 1.2, "measured, 1 core")


EXPERIMENT = Experiment(
    name=run.NAME,
    version=run.VERSION,
    title="a pocket LLaMA from scratch on the generated world, the backbone of the profile mini",
    settings=Settings,
    tasks=run.TASKS,
    methods=("full",),
    profiles=(run.PROFILE,),
    result_fields=run.RESULT_FIELDS,
    plan=plan,
    run=run.run,
    estimate=estimate,
    requires=run.requires,
)
