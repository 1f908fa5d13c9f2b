"""Prompts of instructions, and records as tokenised examples."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from experiments.alpaca_llama.data import Record
from experiments.language import templates
from experiments.language.alpaca_prompt import HasInstruction, message, prompt_text
from experiments.language.examples import Example, Examples
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


def prompts(asked: Sequence[HasInstruction], template: str) -> list[str]:
    """The text of each prompt: Alpaca's, or the message for a chat template."""
    return [(message if template == templates.CHAT else prompt_text)(each) for each in asked]


def encode(
    records: Sequence[Record],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    template: str = templates.PAPER,
) -> tuple[Examples, int]:
    """Return the records as examples of at most `max_length` tokens, and how many were cut.

    They are cut on the right, so a cut example has no end, as in the released code. A record whose
    prompt alone fills `max_length` is left out: it has no label. ZiaError if none is left.
    """
    kind = templates.named(template, tokenizer)
    asked = kind.prompt_ids(prompts(records, template))
    responses = kind.response_ids([record.output for record in records])
    examples, cut = [], 0
    for record, prompt, response in zip(records, asked, responses, strict=True):
        room = max_length - len(prompt)
        if room > 0:
            examples.append(Example(str(record.id), prompt, response[:room]))
            cut += len(response) > room
    if not examples:
        raise ZiaError(
            f"max_length {max_length} leaves no room for a response after any of the "
            f"{len(records)} prompts: raise it"
        )
    return Examples(examples), cut
