"""Alpaca's two prompts, to the character (the authors' `alpaca_finetuning_v1/finetuning.py`).

The response follows `### Response:` directly, without a space or a new line.
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
# A further instruction of a conversation, below the answer to the one before [ours].
FOLLOWING = "\n\n### Instruction:\n{instruction}\n\n### Response:"


class HasInstruction(Protocol):
    """An instruction and the input it is about, which may be empty."""

    @property
    def instruction(self) -> str:
        """What to do."""

    @property
    def input(self) -> str:
        """What to do it with; may be empty."""


def message(asked: HasInstruction) -> str:
    """The user's message in a chat: the instruction and its input, without a frame."""
    return f"{asked.instruction}\n\n{asked.input}" if asked.input else asked.instruction


def prompt_text(asked: HasInstruction) -> str:
    """The prompt that the response continues."""
    template = PROMPT_INPUT if asked.input else PROMPT_NO_INPUT
    return template.format(instruction=asked.instruction, input=asked.input)
