"""The experiment `pretrain_pocket_vit`: stands in for ViT-B/16 and CLIP in the profile `mini`."""

from experiments.harness.experiment import Estimate, Experiment
from experiments.harness.spec import RunSpec
from experiments.pretrain.pocket_vit import run
from experiments.pretrain.pocket_vit.task import Settings


def plan(profile: str, device: str) -> list[RunSpec]:
    """The one run whose weights are released; on a GPU it is another run."""
    return [run.pretraining(settings=Settings(device="cuda" if device == "cuda" else "cpu"))]


def estimate(spec: RunSpec) -> Estimate:
    """What the run costs."""
    return Estimate(0.2, None, "arithmetic, 1 core")


EXPERIMENT = Experiment(
    name=run.NAME,
    version=run.VERSION,
    title="a pocket ViT from scratch on the generated world, the backbone of the profile mini",
    settings=Settings,
    tasks=(run.TASK,),
    methods=("full",),
    profiles=(run.PROFILE,),
    result_fields=run.RESULT_FIELDS,
    plan=plan,
    run=run.run,
    estimate=estimate,
)
