"""What a run is expected to cost."""

from pathlib import Path

from experiments.harness.experiment import Estimate
from experiments.harness.spec import RunSpec
from experiments.squad_roberta.plan import REDUCED_DATA, V1, V2
from experiments.squad_roberta.step_shape import micro_batch
from experiments.training.predicted_cost import Predictor, Work

# Of `mini`: steps of an epoch, seconds of a step.
MINI_STEPS = {V1: 118, V2: 178}
MINI_STEP_SECONDS = {"full": 0.051}
OTHER_STEP_SECONDS = 0.039
# Minutes of an epoch with the reduced budget.
REDUCED_MINUTES = {"full": 4.2, "lora": 2.4}
OTHER_MINUTES = 3.4
# Windows of 384 tokens with a stride of 128, of the training and the dev set; padded tokens of one.
WINDOWS = {V1: (89_300, 10_900), V2: (133_600, 12_300)}
PADDED_TOKENS = 200


def estimate(spec: RunSpec) -> Estimate:
    """Return the cost of a run; measured for `mini` and the reduced budget of `small`."""
    is_select = spec.settings.phase == "select"
    if spec.data == REDUCED_DATA:
        epoch = REDUCED_MINUTES.get(spec.method, OTHER_MINUTES)
        minutes = epoch * spec.settings.epochs + (0.2 if is_select else 0.6)
        memory_gb = 3.4 if spec.method == "full" else 3.0
        return Estimate(minutes / 60, memory_gb, "measured, 1 core")
    if spec.profile == "mini":
        steps = spec.settings.epochs * MINI_STEPS[spec.task]
        step = MINI_STEP_SECONDS.get(spec.method, OTHER_STEP_SECONDS)
        return Estimate((step * steps + 1.5) / 3600, 1.2, "measured, 1 core")
    if spec.profile == "paper":
        return PREDICTOR.estimate(spec)
    return Estimate(None, None, "not measured")


def work(spec: RunSpec) -> Work:
    """Training, and the scored windows."""
    trained, scored = WINDOWS[spec.task]
    return Work(spec.settings.epochs * trained * PADDED_TOKENS, 1.1 * scored * PADDED_TOKENS)


PREDICTOR = Predictor(Path(__file__).parent, micro_batch, work)
