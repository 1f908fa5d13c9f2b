"""What the report needs to know of `alpaca_llama`: its score, and which answers it shows."""

from collections.abc import Mapping, Sequence

from experiments.alpaca_llama.instructions import own_instructions
from experiments.harness.report_info import VALIDATION_LOSS, Asked, ReportInfo, Samples, Score
from experiments.mini_world.provided import PROFILE as MINI


def _asked(profile: str, task: str, ids: Sequence[str]) -> Mapping[str, Asked]:
    return {
        each.id: Asked(each.instruction, each.input, each.reference or "")
        for each in own_instructions(profile)
    }


def _fields(profile: str) -> Mapping[str, str]:
    """The set of predictions on our own instructions."""
    return {"set": "alpaca" if profile == MINI else "nine", "decoding": "greedy"}


REPORT = ReportInfo(
    score=Score("val_loss", "validation loss (nats a token)", higher_is_better=False),
    trained=VALIDATION_LOSS,
    samples=Samples(_asked, _fields),
)
