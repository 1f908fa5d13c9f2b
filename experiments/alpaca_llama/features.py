"""Records as tokens: prompt and response, labels on the response alone, cached as Arrow.

Prompt and response are tokenised apart, the response as a continuation. In about 3 % of Alpaca's
records the joined text would merge the prompt's last character with the response's first ones
(":" and "-" into ":-"). The released code masks such a token, so that the response's beginning is
never learned, and a model that is asked never sees it; every other record has the same tokens
either way.
"""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from experiments.alpaca_llama.data import Record, fingerprint
from experiments.alpaca_llama.templates import PROMPT_INPUT, PROMPT_NO_INPUT, prompt_text
from experiments.data.arrow_cache import cached
from experiments.io.files import canonical_json
from experiments.language.token_rows import TokenRows
from zia_core.errors import ZiaError

if TYPE_CHECKING:  # heavy, and not needed to say what a run is
    from datasets import Dataset
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

IGNORED = -100  # the label of a position without loss, as torch and transformers have it
BATCH = 1000  # records a call of the tokenizer: enough to keep its threads busy


def prompt_ids(tokenizer: "PreTrainedTokenizerBase", prompts: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each prompt, for training and for generation: BOS and the text.

    BOS is left out where the tokenizer has none. Text that spells a special token stays text.
    """
    bos = [] if tokenizer.bos_token_id is None else [tokenizer.bos_token_id]
    return [bos + ids for ids in _ids(tokenizer, prompts)]


def response_ids(tokenizer: "PreTrainedTokenizerBase", responses: Sequence[str]) -> list[list[int]]:
    """Return the tokens of each response as the continuation of a prompt, and EOS."""
    anchor, eos = "\n", tokenizer.eos_token_id
    start, probe, joined = _ids(tokenizer, [anchor, "a", f"{anchor}a"])
    if joined == start + probe:
        return [[*ids, eos] for ids in _ids(tokenizer, responses)]
    # SentencePiece puts a space before a text. A response continues one, so an anchor, with which
    # nothing merges, takes that space.
    anchored = _ids(tokenizer, [anchor + response for response in responses])
    if any(ids[: len(start)] != start for ids in [joined, *anchored]):
        raise ZiaError(
            f"the tokenizer {tokenizer.name_or_path} merges a new line with the text after it and "
            "puts a space before every text: such tokenizers are not supported"
        )
    return [[*ids[len(start) :], eos] for ids in anchored]


class InstructionDataset:
    """Tokenised examples, and batches of them padded on the right.

    Examples are numbered from 0; `record_id` gives the row in the official file.
    """

    def __init__(self, table: "Dataset") -> None:
        names = ["record", "prompt_tokens", "tokens", "truncated"]
        columns = table.with_format("numpy").select_columns(names)[:]
        self._rows = TokenRows.in_column(table, "input_ids")
        self._records = columns["record"].tolist()
        self._prompt_tokens: list[int] = columns["prompt_tokens"].tolist()
        self._tokens: list[int] = columns["tokens"].tolist()
        self.multiple = 1  # of tokens, which a batch is padded to
        self.truncated = int(columns["truncated"].sum())  # examples cut at max_length, without EOS

    def __len__(self) -> int:
        return len(self._tokens)

    def length(self, i: int) -> int:
        """Return the number of tokens of example `i`."""
        return self._tokens[i]

    def labels(self, i: int) -> int:
        """Return the number of tokens of example `i` that have a loss: response and EOS."""
        return self._tokens[i] - self._prompt_tokens[i]

    def record_id(self, i: int) -> str:
        """Return the row of example `i` in the official file."""
        return str(self._records[i])

    def batch(self, indices: Sequence[int]) -> dict[str, "Tensor"]:
        """Return input_ids, attention_mask and labels, each [len(indices), longest] int64.

        Labels are not shifted: label t is token t, or -100 for prompt and padding. label_index says
        where they are, see `zia_core.losses`.
        """
        import torch

        from zia_core.losses import label_index

        # The id of padding is of no consequence: nothing attends to it and it has no label.
        input_ids, mask = self._rows.padded(indices, multiple=self.multiple)
        prompts = torch.tensor([self._prompt_tokens[i] for i in indices])[:, None]
        labelled = mask.bool() & (torch.arange(mask.shape[1]) >= prompts)
        labels = input_ids.where(labelled, IGNORED)
        return {
            "input_ids": input_ids,
            "attention_mask": mask,
            "labels": labels,
            "label_index": label_index(labels),
        }


def tokenised(
    records: Sequence[Record],
    tokenizer: "PreTrainedTokenizerBase",
    max_length: int,
    cache: Path | None = None,
) -> InstructionDataset:
    """Return the records as examples of at most `max_length` tokens, cut on the right.

    An example that is cut has no EOS, as in the released code; one whose prompt alone fills
    `max_length` has nothing to learn from and is left out. `cache` is explained in `arrow_cache`.
    ZiaError if none is left, or for a tokenizer that is not fast or has no EOS.
    """
    if not tokenizer.is_fast or tokenizer.eos_token_id is None:
        raise ZiaError(f"{tokenizer.name_or_path} needs a fast tokenizer that has an EOS token")
    what = {
        "tokenizer": tokenizer.backend_tokenizer.to_str(),
        "ends": [tokenizer.bos_token_id, tokenizer.eos_token_id],
        "templates": [PROMPT_INPUT, PROMPT_NO_INPUT],
        "code": hashlib.sha256(Path(__file__).read_bytes()).hexdigest(),
        "records": fingerprint(records),
        "max_length": max_length,
    }
    key = hashlib.sha256(canonical_json(what).encode()).hexdigest()[:32]
    return InstructionDataset(cached(key, lambda: _table(records, tokenizer, max_length), cache))


def _table(
    records: Sequence[Record], tokenizer: "PreTrainedTokenizerBase", max_length: int
) -> "Dataset":
    import numpy as np
    from datasets import Dataset, Features, List, Value

    columns: dict[str, list[Any]] = {
        name: [] for name in ("record", "prompt_tokens", "tokens", "truncated", "input_ids")
    }
    for record, prompt, response in _tokens(records, tokenizer):
        if len(prompt) >= max_length:
            continue
        whole = prompt + response
        row = {
            "record": record.id,
            "prompt_tokens": len(prompt),
            "tokens": min(len(whole), max_length),
            "truncated": len(whole) > max_length,
            "input_ids": np.array(whole[:max_length], dtype=np.int32),
        }
        for name, value in row.items():
            columns[name].append(value)
    if not columns["record"]:
        raise ZiaError(
            f"max_length {max_length} leaves no room for a response after any of the "
            f"{len(records)} prompts: raise it"
        )
    number = Value("int32")
    kinds: dict[str, Any] = dict.fromkeys(columns, number)
    kinds |= {"truncated": Value("bool"), "input_ids": List(number)}
    return Dataset.from_dict(columns, features=Features(kinds))


def _tokens(
    records: Sequence[Record], tokenizer: "PreTrainedTokenizerBase"
) -> Iterator[tuple[Record, list[int], list[int]]]:
    for start in range(0, len(records), BATCH):
        batch = records[start : start + BATCH]
        prompts = prompt_ids(tokenizer, [prompt_text(record) for record in batch])
        responses = response_ids(tokenizer, [record.output for record in batch])
        yield from zip(batch, prompts, responses, strict=True)


def _ids(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[list[int]]:
    encoded = tokenizer(
        list(texts), add_special_tokens=False, split_special_tokens=True, verbose=False
    )
    ids: list[list[int]] = encoded["input_ids"]
    return ids
