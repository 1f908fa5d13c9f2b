"""What a run is expected to cost."""

from pathlib import Path

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.language.step_shape import language_micro_batch
from experiments.scienceqa.plan import REDUCED_DATA
from experiments.scienceqa.subsets import MINI_IMAGES, OWN_SPLIT
from experiments.training.predicted_cost import Predictor, Work
from experiments.training.step_cost import MicroBatch

# ScienceQA in LLaMA's tokens, from the characters of the first 1,773 problems: questions of a
# split, tokens of prompt and answer with padding, and of an answer.
TRAINED, HELD_OUT, PADDED_TOKENS, LABELS = 12_726, 4_241, 90, 8
ROW = 128  # tokens of each row of a full micro-batch

# Seconds of one core with the reduced budgets: loading and answering, and an epoch of training.
REDUCED_SECONDS = {OWN_SPLIT: (75, 105), REDUCED_DATA: (130, 75)}


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budgets of `small`."""
    if spec.profile == "mini":
        fixed = 5.0 if spec.settings.phase == "final" else 2.6
        epoch = (7.4 if spec.method == "lora" else 5.8) / (3 if spec.data == MINI_IMAGES else 1)
        return Estimate((fixed + epoch * spec.settings.epochs) / 3600, 1.1, "measured, 1 core")
    if spec.profile == "paper":
        return PREDICTOR.estimate(spec)
    if spec.data not in REDUCED_SECONDS or spec.profile != "small":
        return Estimate(None, None, "not measured")
    fixed, epoch = REDUCED_SECONDS[spec.data]
    return Estimate((fixed + epoch * spec.settings.epochs) / 3600, 4.4, "measured, 1 core")


def micro_batch(spec: RunSpec) -> MicroBatch:
    """A micro-batch as large as its budget."""
    rows = max(1, (spec.settings.token_budget or 2048) // ROW)
    return language_micro_batch(spec, rows, ROW, LABELS)


def work(spec: RunSpec) -> Work:
    """Training, and the answers to a split; features of images are made once for all runs."""
    settings = spec.settings
    trained = settings.epochs * TRAINED * PADDED_TOKENS
    evaluated = (settings.evaluations + 1) * HELD_OUT * PADDED_TOKENS
    return Work(trained, evaluated, HELD_OUT / settings.answered_together * settings.new_tokens)


PREDICTOR = Predictor(Path(__file__).parent, micro_batch, work)
