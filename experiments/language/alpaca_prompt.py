"""The two prompts of Alpaca, to the character (the authors' `alpaca_finetuning_v1/finetuning.py`).

Nothing follows `### Response:`, neither a space nor a new line: the response is appended directly.
"""

from typing import Protocol

PROMPT_NO_INPUT = (
    "Below is an instruction that describes a task. "
    "Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Response:"
)
PROMPT_INPUT = (
    "Below is an instruction that describes a task, paired with an input that provides further "
    "context. Write a response that appropriately completes the request.\n\n"
    "### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
)


class Asked(Protocol):
    """Anything with an instruction and, where not empty, an input that it is about."""

    @property
    def instruction(self) -> str:
        """What to do."""

    @property
    def input(self) -> str:
        """What to do it with, or the empty text."""


def prompt_text(asked: Asked) -> str:
    """Return the prompt that the model continues with its response."""
    template = PROMPT_INPUT if asked.input else PROMPT_NO_INPUT
    return template.format(instruction=asked.instruction, input=asked.input)
