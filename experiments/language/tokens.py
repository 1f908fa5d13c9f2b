"""Tokenise prompts and responses, each on its own, the response as a continuation of its prompt.

In about 3 % of Alpaca's records the joined text would merge the prompt's last character with the
response's first ones (":" and "-" into ":-"). The released code masks such a token, so the start of
the response is never learned, and a model that is prompted never sees it. All other records have
the same tokens either way.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from zia_core.errors import ZiaError

if TYPE_CHECKING:  # slow to import, and not needed to describe a run
    from transformers import PreTrainedTokenizerBase

TEXTS_PER_CALL = 1000  # enough to keep the tokenizer's threads busy


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[list[int]]:
    """The tokens of each prompt: BOS, where the tokenizer has one, and the text.

    Text that spells a special token stays text.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [bos + ids for ids in plain_ids(tokenizer, prompts)]


def response_ids(tokenizer: "PreTrainedTokenizerBase", responses: Sequence[str]) -> list[list[int]]:
    """The tokens of each response, as the continuation of a prompt, and EOS.

    ZiaError for a tokenizer that has no EOS, or as in `continuation_ids`.
    """
    eos = tokenizer.eos_token_id
    if eos is None:
        raise ZiaError(f"{tokenizer.name_or_path} needs a fast tokenizer that has an EOS token")
    return [[*ids, eos] for ids in continuation_ids(tokenizer, responses)]


def continuation_ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text, as the continuation of another one.

    ZiaError for a tokenizer that is not fast, or that always puts a space before a text.
    """
    if not tokenizer.is_fast:
        raise ZiaError(f"{tokenizer.name_or_path} needs a fast tokenizer")
    anchor = "\n"
    start, probe, joined = plain_ids(tokenizer, [anchor, "a", f"{anchor}a"])
    if joined == start + probe:
        return plain_ids(tokenizer, texts)
    # SentencePiece puts a space before a text. A response continues one, so an anchor, with which
    # nothing merges, takes that space.
    anchored = plain_ids(tokenizer, [anchor + text for text in texts])
    if any(ids[: len(start)] != start for ids in [joined, *anchored]):
        raise ZiaError(
            f"the tokenizer {tokenizer.name_or_path} merges a new line with the text after it and "
            "puts a space before every text: such tokenizers are not supported"
        )
    return [ids[len(start) :] for ids in anchored]


def plain_ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    """The tokens of each text alone; text that spells a special token stays text."""
    ids: list[list[int]] = []
    for start in range(0, len(texts), TEXTS_PER_CALL):
        part = list(texts[start : start + TEXTS_PER_CALL])
        options = {"add_special_tokens": False, "split_special_tokens": True, "verbose": False}
        ids += tokenizer(part, **options)["input_ids"]
    return ids
