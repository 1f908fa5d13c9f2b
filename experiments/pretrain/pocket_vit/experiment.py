"""The experiment `pretrain_pocket_vit`: the stand-in for ViT-B/16 and CLIP in `mini`."""

from experiments.harness.experiment import Estimate
from experiments.pretrain.pocket_vit.run import RECIPE, run

EXPERIMENT = RECIPE.as_experiment(
    "a pocket ViT from scratch on the generated world, the backbone of the profile mini",
    run,
    Estimate(0.2, None, "arithmetic, 1 core"),
)
