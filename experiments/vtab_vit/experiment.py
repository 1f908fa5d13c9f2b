"""The experiment `vtab_vit`: a ViT on VTAB-1k (paper section 4.4, Tables 6 and 12)."""

from experiments.harness.experiment import Experiment
from experiments.mini_world.provided import rescore_with_data, run_with_data
from experiments.vtab_vit import plan
from experiments.vtab_vit.estimate import PREDICTOR, estimate
from experiments.vtab_vit.methods import METHODS
from experiments.vtab_vit.needs import needs
from experiments.vtab_vit.other_backbones import with_models
from experiments.vtab_vit.rehearsal import REHEARSAL
from experiments.vtab_vit.report_info import REPORT
from experiments.vtab_vit.run import RESULT_FIELDS, rescore, run
from experiments.vtab_vit.selection import select_runs
from experiments.vtab_vit.settings import Settings
from experiments.vtab_vit.tasks import TASKS

EXPERIMENT = Experiment(
    name=plan.NAME,
    version=plan.VERSION,
    title="image classification by a ViT on VTAB-1k (Tables 6 and 12)",
    settings=Settings,
    tasks=tuple(TASKS),
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
    requires=select_runs,
    rehearsal=REHEARSAL,
    with_models=with_models,
    report=REPORT,
)
