"""The experiment `scienceqa`: multiple choice with and without images (paper section 4.2)."""

from experiments.harness.experiment import Experiment
from experiments.language.methods import METHODS
from experiments.language.other_backbones import with_models
from experiments.mini_world.provided import rescore_with_data, run_with_data
from experiments.scienceqa import plan
from experiments.scienceqa.estimate import PREDICTOR, estimate
from experiments.scienceqa.needs import needs
from experiments.scienceqa.rehearsal import REHEARSAL
from experiments.scienceqa.report_info import REPORT
from experiments.scienceqa.run import RESULT_FIELDS, generate_image, rescore, run
from experiments.scienceqa.settings import Settings

EXPERIMENT = Experiment(
    name=plan.NAME,
    version=plan.VERSION,
    title="ScienceQA with a LLaMA model and image-conditioned prompts (Tables 2, 4, 5, 6)",
    settings=Settings,
    tasks=plan.TASKS,
    methods=(*METHODS, *plan.FOLLOW_UPS),
    follow_ups=tuple(plan.FOLLOW_UPS),
    profiles=plan.PROFILES,
    result_fields=RESULT_FIELDS,
    plan=plan.plan,
    run=run_with_data(run),
    estimate=estimate,
    needs=needs,
    largest_step=PREDICTOR.memory,
    rescore=rescore_with_data(rescore),
    generate_image=generate_image,
    requires=plan.requires,
    later=plan.later,
    rehearsal=REHEARSAL,
    with_models=with_models,
    report=REPORT,
)
