"""The experiment `coco_caption`: captions of images (arXiv v2, Table 5)."""

from experiments.coco_caption import plan
from experiments.coco_caption.data import TASKS
from experiments.coco_caption.estimate import PREDICTOR, estimate
from experiments.coco_caption.needs import needs
from experiments.coco_caption.rehearsal import REHEARSAL
from experiments.coco_caption.report_info import REPORT
from experiments.coco_caption.run import RESULT_FIELDS, generate_image, rescore, run
from experiments.coco_caption.settings import Settings
from experiments.harness.experiment import Experiment
from experiments.language.methods import METHODS
from experiments.language.other_backbones import with_models
from experiments.mini_world.provided import rescore_with_data, run_with_data

EXPERIMENT = Experiment(
    name=plan.NAME,
    version=plan.VERSION,
    title="captioning with a LLaMA model and image-conditioned prompts (v2, Table 5)",
    settings=Settings,
    tasks=TASKS,
    methods=tuple(METHODS),
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
