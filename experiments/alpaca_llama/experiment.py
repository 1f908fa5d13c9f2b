"""The experiment `alpaca_llama`: LLaMA instruction tuning on Alpaca-52K (paper section 4.1)."""

from experiments.alpaca_llama import runs
from experiments.alpaca_llama.run import RESULT_FIELDS, generate, rescore, run
from experiments.alpaca_llama.settings import Settings
from experiments.harness.experiment import Experiment
from experiments.miniature.provided import rescore_with_data, run_with_data

EXPERIMENT = Experiment(
    name=runs.NAME,
    version=runs.VERSION,
    title="instruction tuning of a LLaMA model on Alpaca-52K (Table 1)",
    settings=Settings,
    tasks=(runs.TASK, runs.TASK_RELEASED),
    methods=tuple(runs.METHODS),
    profiles=runs.PROFILES,
    result_fields=RESULT_FIELDS,
    plan=runs.plan,
    run=run_with_data(run),
    estimate=runs.estimate,
    rescore=rescore_with_data(rescore),
    generate=generate,
    requires=runs.requires,
)
