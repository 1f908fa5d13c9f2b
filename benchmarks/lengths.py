"""Lengths of Alpaca's 52,002 records in LLaMA's tokens: prompt, with its template, and response.

    python -m benchmarks.lengths TOKENIZER   # a folder with LLaMA's tokenizer; reads $ZIA_DATA

The project stores only these counts, in the order of the official file, so that benchmarks have
real lengths without data or tokenizer. Texts are tokenised as for training and truncated at 512
tokens.
"""

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama.data import Record, fingerprint, load_alpaca
from experiments.language.alpaca_prompt import prompt_text
from experiments.language.tokens import prompt_ids, response_ids
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor

FILE = Path(__file__).with_name("alpaca-lengths.safetensors")
MAX_LENGTH = 512


@dataclass(frozen=True)
class Lengths:
    """Tokens and labels of each record that has room for a response.

    Attributes:
        tokens: of prompt and response, at most MAX_LENGTH.
        labels: of the response, without truncated ones.
    """

    tokens: list[int]
    labels: list[int]


def load() -> Lengths:
    """The stored lengths; ZiaError if the file is missing or damaged."""
    prompt, response = stored()
    has_room = prompt < MAX_LENGTH
    prompt, response = prompt[has_room], response[has_room]
    tokens = (prompt + response).clamp(max=MAX_LENGTH)
    return Lengths(tokens.tolist(), (tokens - prompt).tolist())


def stored() -> "tuple[Tensor, Tensor]":
    """Tokens of every record's prompt and response, [records] each, not truncated.

    Raises:
        ZiaError: the file is missing or damaged.
    """
    import torch
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(FILE, "pt") as file:
            prompt, response = (file.get_tensor(name) for name in ("prompt", "response"))
            total = int((file.metadata() or {})["tokens"])
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise _damaged(str(error)) from error
    for of in (prompt, response):
        if of.dtype != torch.int16 or of.ndim != 1 or of.shape != prompt.shape or not len(of):
            raise _damaged("prompts and responses are not two lists of as many counts")
        if of.min() < 1:
            raise _damaged("a count is below 1")
    if (found := int(prompt.sum() + response.sum())) != total:
        raise _damaged(f"the counts sum to {found:,}, not to {total:,} as when it was written")
    return prompt.int(), response.int()


def _damaged(why: str) -> ZiaError:
    return ZiaError(
        f"the lengths of Alpaca's records in {FILE} cannot be read ({why}): fetch the file "
        "again, or make it with `python -m benchmarks.lengths TOKENIZER`"
    )


def count(records: Sequence[Record], tokenizer: Any) -> tuple[list[int], list[int]]:
    """Tokens of each record's prompt and of its response, not truncated."""
    prompts = prompt_ids(tokenizer, [prompt_text(record) for record in records])
    responses = response_ids(tokenizer, [record.output for record in records])
    return [len(ids) for ids in prompts], [len(ids) for ids in responses]


def main(tokenizer_folder: str) -> None:
    """Count the tokens and write the file."""
    import torch
    from safetensors.torch import save
    from transformers import AutoTokenizer

    from experiments.io.files import write_atomic

    records = load_alpaca()
    tokenizer = AutoTokenizer.from_pretrained(tokenizer_folder, trust_remote_code=False)
    lengths = count(records, tokenizer)
    prompt, response = (torch.tensor(of, dtype=torch.int16) for of in lengths)
    about = {"records": fingerprint(records), "tokens": str(int(prompt.sum() + response.sum()))}
    write_atomic(FILE, save({"prompt": prompt, "response": response}, metadata=about))


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit("usage: python -m benchmarks.lengths TOKENIZER")
    try:
        main(sys.argv[1])
    except ZiaError as error:
        sys.exit(f"lengths: {error}")
