"""The experiment `coco_caption`: captions of images (arXiv v2, Table 5)."""

from experiments.coco_caption import runs
from experiments.coco_caption.data import TASKS
from experiments.coco_caption.run import RESULT_FIELDS, generate_image, rescore, run
from experiments.coco_caption.settings import Settings
from experiments.harness.experiment import Experiment
from experiments.image_features.methods import METHODS
from experiments.miniature.provided import rescore_with_data, run_with_data

EXPERIMENT = Experiment(
    name=runs.NAME,
    version=runs.VERSION,
    title="captioning with a LLaMA model and image-conditioned prompts (v2, Table 5)",
    settings=Settings,
    tasks=TASKS,
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
