"""The experiment `pretrain_roberta`: the stand-in for RoBERTa in the profile `mini`."""

from experiments.harness.experiment import Estimate
from experiments.pretrain.roberta.run import RECIPE, run

EXPERIMENT = RECIPE.as_experiment(
    "a pocket RoBERTa from scratch on the generated world, the backbone of the profile mini",
    run,
    Estimate(0.9, 2.1, "measured, 1 core, shared"),
)
