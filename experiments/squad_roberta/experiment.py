"""The experiment `squad_roberta`: question answering with an encoder (paper section 4.4)."""

from experiments.harness.experiment import Experiment
from experiments.mini_world.provided import rescore_with_data, run_with_data
from experiments.squad_roberta import plan
from experiments.squad_roberta.estimate import PREDICTOR, estimate
from experiments.squad_roberta.needs import needs
from experiments.squad_roberta.rehearsal import REHEARSAL
from experiments.squad_roberta.report_info import REPORT
from experiments.squad_roberta.run import RESULT_FIELDS, rescore, run
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.subsets import TASKS

EXPERIMENT = Experiment(
    name=plan.NAME,
    version=plan.VERSION,
    title="question answering with RoBERTa on SQuAD v1.1 and v2.0 (Table 7)",
    settings=Settings,
    tasks=tuple(TASKS),
    methods=(*plan.METHODS, *plan.FOLLOW_UPS),
    follow_ups=tuple(plan.FOLLOW_UPS),
    profiles=plan.PROFILES,
    result_fields=RESULT_FIELDS,
    plan=plan.plan,
    run=run_with_data(run),
    estimate=estimate,
    needs=needs,
    largest_step=PREDICTOR.memory,
    rescore=rescore_with_data(rescore),
    requires=plan.requires,
    later=plan.later,
    rehearsal=REHEARSAL,
    with_models=plan.with_models,
    report=REPORT,
)
