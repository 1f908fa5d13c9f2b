"""The experiment `alpaca_llama`: LLaMA instruction tuning on Alpaca-52K (paper section 4.1)."""

from experiments.alpaca_llama import plan
from experiments.alpaca_llama.chat import chat, chat_with
from experiments.alpaca_llama.estimate import PREDICTOR, estimate
from experiments.alpaca_llama.needs import needs
from experiments.alpaca_llama.rehearsal import REHEARSAL
from experiments.alpaca_llama.report_info import REPORT
from experiments.alpaca_llama.run import RESULT_FIELDS, generate, rescore, run
from experiments.alpaca_llama.settings import Settings
from experiments.harness.experiment import Experiment
from experiments.language.other_backbones import with_models
from experiments.mini_world.provided import rescore_with_data, run_with_data

EXPERIMENT = Experiment(
    name=plan.NAME,
    version=plan.VERSION,
    title="instruction tuning of a LLaMA model on Alpaca-52K (Table 1)",
    settings=Settings,
    tasks=(plan.TASK, plan.TASK_RELEASED),
    methods=(*plan.METHODS, *plan.FOLLOW_UPS),
    follow_ups=tuple(plan.FOLLOW_UPS),
    profiles=plan.PROFILES,
    result_fields=RESULT_FIELDS,
    plan=plan.plan,
    run=run_with_data(run),
    estimate=estimate,
    needs=needs,
    largest_step=PREDICTOR.memory,
    in_shards=plan.in_shards,
    rescore=rescore_with_data(rescore),
    generate=generate,
    chat=chat,
    chat_with=chat_with,
    requires=plan.requires,
    rehearsal=REHEARSAL,
    with_models=with_models,
    report=REPORT,
)
