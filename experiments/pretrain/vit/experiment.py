"""The experiment `pretrain_vit`: not in the paper, but what stands in for its ViT and CLIP here."""

from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.spec import RunSpec
from experiments.pretrain.vit import run
from experiments.pretrain.vit.task import Settings


def plan(profile: str, device: str) -> list[RunSpec]:
    """The one run whose weights are released; on a GPU it is another run."""
    return [run.pretraining(settings=Settings(device="cuda" if device == "cuda" else "cpu"))]


def estimate(spec: RunSpec) -> Estimate:
    """What the run costs."""
    return Estimate(1.1, 1.0, "measured, 1 core")


EXPERIMENT = Experiment(
    name=run.NAME,
    version=run.VERSION,
    title="a small ViT from scratch on CIFAR-10, the backbone of the profile small",
    settings=Settings,
    tasks=(run.TASK,),
    methods=("full",),
    profiles=(run.PROFILE,),
    result_fields=run.RESULT_FIELDS,
    plan=plan,
    run=run.run,
    estimate=estimate,
)
