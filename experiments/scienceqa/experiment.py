"""The experiment `scienceqa`: multiple choice with and without images (paper section 4.2)."""

from experiments.harness.experiment import Experiment
from experiments.image_features.methods import METHODS
from experiments.miniature.provided import rescore_with_data, run_with_data
from experiments.scienceqa import runs
from experiments.scienceqa.run import RESULT_FIELDS, generate_image, rescore, run
from experiments.scienceqa.settings import Settings

EXPERIMENT = Experiment(
    name=runs.NAME,
    version=runs.VERSION,
    title="ScienceQA with a LLaMA model and image-conditioned prompts (Tables 2, 4, 5, 6)",
    settings=Settings,
    tasks=runs.TASKS,
    methods=tuple(METHODS),
    profiles=runs.PROFILES,
    result_fields=RESULT_FIELDS,
    plan=runs.plan,
    run=run_with_data(run),
    estimate=runs.estimate,
    rescore=rescore_with_data(rescore),
    generate_image=generate_image,
    requires=runs.requires,
)
