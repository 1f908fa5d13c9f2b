"""What a run is expected to cost."""

from pathlib import Path

from experiments.alpaca_llama.plan import REDUCED_DATA, in_shards
from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.language.step_shape import language_micro_batch
from experiments.training.predicted_cost import Predictor, Work
from experiments.training.step_cost import MicroBatch, sharded

# Of `mini`: steps of an epoch, seconds of a step, seconds of the rest of a run.
MINI_STEPS = 62
MINI_STEP_SECONDS = {
    "zero-init": 0.096,
    "zero-init-40": 0.1,
    "zero-init-no-tanh": 0.096,
    "zero-init-low-rate": 0.096,
    "random-init": 0.091,
    "random-init-gate": 0.103,
    "lora": 0.119,
    "full": 0.138,
    "frozen": 0.0,
}
MINI_OTHER_SECONDS = 2.5
# With the reduced budget: minutes of the epoch, minutes of evaluations and answers, and the highest
# GB. No other method has been run with it.
REDUCED_COSTS: dict[str, tuple[float, float, float | None]] = {
    "zero-init": (7.6, 2.5, 4.7),
    "random-init": (6.7, 2.5, 5.4),
    "random-init-gate": (7.8, 2.5, 5.4),
    "lora": (7.8, 2.5, 6.3),
    "frozen": (0.0, 2.5, None),
}
NOT_MEASURED = Estimate(None, None, "not measured")

# Of Alpaca in LLaMA's tokens (`benchmarks.lengths`), in micro-batches of at most 8,192: records,
# padded tokens of one; and the largest micro-batch: rows, tokens and labels of each.
RECORDS, HELD_OUT, PADDED_TOKENS = 50_000, 2_000, 133
LARGEST = (11, 212, 142)


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budget of `small`."""
    if spec.data == REDUCED_DATA:
        if spec.method not in REDUCED_COSTS:
            return NOT_MEASURED
        epoch, rest, memory_gb = REDUCED_COSTS[spec.method]
        minutes = epoch * spec.settings.epochs + (rest if spec.settings.answered else rest / 2)
        return Estimate(minutes / 60, memory_gb, "measured, 1 core")
    if spec.profile == "mini":
        seconds = MINI_STEP_SECONDS[spec.method] * spec.settings.epochs * MINI_STEPS
        seconds += MINI_OTHER_SECONDS
        return Estimate(seconds / 3600, 1.2, "measured, 1 core")
    return PREDICTOR.estimate(spec) if spec.profile == "paper" else NOT_MEASURED


def micro_batch(spec: RunSpec) -> MicroBatch:
    """The largest micro-batch of Alpaca's records in three epochs of steps of 64."""
    size, budget = spec.settings.micro_batch_size, spec.settings.token_budget
    if budget is None:
        return language_micro_batch(spec, size, spec.settings.max_length, 400)
    rows, tokens, labels = LARGEST
    rows = max(1, min(rows, budget // tokens))
    found = language_micro_batch(spec, rows, min(tokens, spec.settings.max_length), labels)
    return sharded(found, spec.settings) if in_shards(spec) else found


def work(spec: RunSpec) -> Work:
    """Training, and the answers, sampled and greedy, in batches of 16."""
    settings = spec.settings
    trained = settings.epochs * RECORDS * PADDED_TOKENS
    evaluated = (settings.evaluations + 1) * HELD_OUT * PADDED_TOKENS
    asked = 2 * (9 + 252 * settings.user_oriented) + 80 * settings.vicuna + settings.answered
    return Work(trained, evaluated, asked / 16 * settings.new_tokens)


PREDICTOR = Predictor(Path(__file__).parent, micro_batch, work)
