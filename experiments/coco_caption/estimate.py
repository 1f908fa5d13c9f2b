"""What a run is expected to cost."""

from pathlib import Path

from experiments.coco_caption.plan import REDUCED_DATA
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.language.step_shape import language_micro_batch
from experiments.training.predicted_cost import Predictor, Work
from experiments.training.step_cost import MicroBatch

# COCO in LLaMA's tokens, from the characters of val2017: captions of Karpathy's splits, tokens of
# prompt and caption with padding, and the longest of 64, as rows, tokens and labels of each.
CAPTIONS, HELD_OUT, TESTED, PADDED_TOKENS = 566_435, 25_000, 5_000, 24
LARGEST = (64, 32, 22)


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budget of `small`."""
    if spec.profile == "mini":
        epoch = 7.6 if spec.method == "lora" else 6.9
        return Estimate((2.0 + epoch * spec.settings.epochs) / 3600, 1.1, "measured, 1 core")
    if spec.profile == "paper":
        return PREDICTOR.estimate(spec)
    if spec.data != REDUCED_DATA or spec.profile != "small":
        return Estimate(None, None, "not measured")
    return Estimate(0.06, 4.9, "measured, 1 core")


def micro_batch(spec: RunSpec) -> MicroBatch:
    """A batch of the longest captions."""
    rows, tokens, labels = LARGEST
    return language_micro_batch(spec, min(rows, spec.settings.batch_size), tokens, labels)


def work(spec: RunSpec) -> Work:
    """Training, and the captions of the test images; features of images are made once for all."""
    settings = spec.settings
    trained = settings.epochs * CAPTIONS * PADDED_TOKENS
    evaluated = (settings.evaluations + 1) * HELD_OUT * PADDED_TOKENS
    return Work(trained, evaluated, TESTED / settings.answered_together * settings.new_tokens)


PREDICTOR = Predictor(Path(__file__).parent, micro_batch, work)
