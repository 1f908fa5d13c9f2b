"""The experiment `squad_roberta`: question answering with an encoder (paper section 4.4)."""

from experiments.harness.experiment import Experiment
from experiments.miniature.provided import rescore_with_data, run_with_data
from experiments.selection import select_runs
from experiments.squad_roberta import runs
from experiments.squad_roberta.run import RESULT_FIELDS, rescore, run
from experiments.squad_roberta.settings import Settings
from experiments.squad_roberta.subsets import TASKS

EXPERIMENT = Experiment(
    name=runs.NAME,
    version=runs.VERSION,
    title="question answering with RoBERTa on SQuAD v1.1 and v2.0 (Table 7)",
    settings=Settings,
    tasks=tuple(TASKS),
    methods=runs.METHODS,
    profiles=runs.PROFILES,
    result_fields=RESULT_FIELDS,
    plan=runs.plan,
    run=run_with_data(run),
    estimate=runs.estimate,
    rescore=rescore_with_data(rescore),
    requires=select_runs,
)
