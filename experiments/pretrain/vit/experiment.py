"""The experiment `pretrain_vit`: the stand-in for the paper's ViT and CLIP in `small`."""

from experiments.harness.experiment import Estimate
from experiments.pretrain.vit.run import RECIPE, run

EXPERIMENT = RECIPE.as_experiment(
    "a small ViT from scratch on CIFAR-10, the backbone of the profile small",
    run,
    Estimate(1.1, 1.0, "measured, 1 core"),
)
