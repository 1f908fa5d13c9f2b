"""Cut a question and its context into windows of tokens, and find the characters of each token.

A window is the tokenizer's pair (question, part of the context); parts overlap by `stride` tokens,
as in the scripts of transformers that P-tuning v2 uses. (In BERT's own script, stride is the
distance between windows.) Labels follow Devlin et al., 2019, sections 4.2 and 4.3: the answer's
first and last token, or [CLS] if the window does not contain all of it.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

CLS = 0  # the position of [CLS], or RoBERTa's <s>, in every window
IGNORED = -100  # the label of an answer that the tokenizer drops; torch's losses ignore it

Ints = NDArray[np.int32]


@dataclass(frozen=True)
class WindowSettings:
    """Lengths in tokens. The paper states none; 384 and 128 are from P-tuning v2's code."""

    max_length: int = 384  # of a window, special tokens included
    stride: int = 128  # context tokens shared with the previous window
    max_question: int = 64  # longer questions are cut, as in BERT's script


@dataclass(frozen=True)
class Tokens:
    """The tokens of a text and their characters [start, end), without leading space."""

    ids: Ints
    starts: Ints
    ends: Ints


@dataclass(frozen=True)
class Frame:
    """The special tokens around a pair, and the two texts' token types (0 and 0 without types)."""

    before: list[int]
    between: list[int]
    after: list[int]
    types: tuple[int, int]

    @property
    def size(self) -> int:
        """The number of special tokens in a window."""
        return len(self.before) + len(self.between) + len(self.after)

    def around(self, question: Ints, context: Ints) -> list[int]:
        """Return the ids of a window."""
        return [*self.before, *question, *self.between, *context, *self.after]


@dataclass(frozen=True)
class Window:
    """A window; its `len(starts)` context tokens begin at position `context_at`.

    `label` has the positions of the answer's first and last token.
    """

    ids: list[int]
    context_at: int
    starts: Ints  # (context tokens,) characters of the context
    ends: Ints
    label: tuple[int, int]


def frame_of(tokenizer: "PreTrainedTokenizerBase") -> Frame:
    """Return how the tokenizer frames a pair; ZiaError unless [CLS] comes first and it pads."""
    name = tokenizer.name_or_path
    if not tokenizer.is_fast or tokenizer.pad_token_id is None:
        raise ZiaError(f"{name} needs a fast tokenizer that has a padding token")
    pair = tokenizer("a", "a", return_token_type_ids=True)
    ids, types, texts = pair["input_ids"], pair["token_type_ids"], pair.sequence_ids(0)
    first, second = texts.index(0), texts.index(1)
    after = len(texts) - texts[::-1].index(1)
    if not first or ids[CLS] != tokenizer.cls_token_id:
        raise ZiaError(f"{name} does not begin a pair of texts with its CLS token: use BERT's kind")
    between = [i for i, text in enumerate(texts[:second]) if i > first and text is None]
    if "token_type_ids" not in tokenizer.model_input_names:
        types = [0] * len(ids)
    return Frame(ids[:first], [ids[i] for i in between], ids[after:], (types[first], types[second]))


def tokens_of(tokenizer: "PreTrainedTokenizerBase", texts: Sequence[str]) -> list[Tokens]:
    """Return the tokens of each text, without special tokens; text that spells one stays text."""
    encoded = tokenizer(
        list(texts),
        add_special_tokens=False,
        split_special_tokens=True,
        return_offsets_mapping=True,
        verbose=False,
    )
    return [
        _tokens(text, ids, offsets)
        for text, ids, offsets in zip(
            texts, encoded["input_ids"], encoded["offset_mapping"], strict=True
        )
    ]


def _tokens(text: str, ids: list[int], offsets: list[tuple[int, int]]) -> Tokens:
    spans = np.array(offsets, dtype=np.int32).reshape(len(ids), 2)
    for span in spans:
        # Byte-level tokenizers include the space before a word.
        while span[0] < span[1] and text[span[0]].isspace():
            span[0] += 1
    return Tokens(np.array(ids, dtype=np.int32), spans[:, 0], spans[:, 1])


def windows_of(
    question: Tokens,
    context: Tokens,
    answer: tuple[int, int] | None,
    frame: Frame,
    settings: WindowSettings,
) -> list[Window]:
    """Return the windows that cover the context; `answer` is its characters [start, end), or None.

    A context without tokens has one window. ZiaError if the settings leave too little room.
    """
    asked = question.ids[: settings.max_question]
    room = settings.max_length - frame.size - len(asked)
    if room <= settings.stride:
        raise ZiaError(
            f"max_length {settings.max_length} leaves {max(room, 0)} tokens for the context beside "
            f"a question of {len(asked)}, not more than the stride of {settings.stride}: raise "
            "max_length, or lower stride or max_question"
        )
    context_at = len(frame.before) + len(asked) + len(frame.between)
    span = None if answer is None else answer_tokens(context, *answer)
    windows = []
    for start in window_starts(len(context.ids), room, settings.stride):
        part = slice(start, start + room)
        windows.append(
            Window(
                frame.around(asked, context.ids[part]),
                context_at,
                context.starts[part],
                context.ends[part],
                _label(span, start, room, context_at),
            )
        )
    return windows


def window_starts(tokens: int, room: int, stride: int) -> list[int]:
    """The first context token of each window; only the last window reaches the end."""
    return list(range(0, max(tokens - stride, 1), room - stride))


def answer_tokens(context: Tokens, start: int, end: int) -> tuple[int, int]:
    """The first and last token that share a character with [start, end).

    The first is after the last if there are none.
    """
    first = int(np.searchsorted(context.ends, start, side="right"))
    last = int(np.searchsorted(context.starts, end, side="left")) - 1
    return first, last


def _label(span: tuple[int, int] | None, start: int, room: int, context_at: int) -> tuple[int, int]:
    if span is None:
        return CLS, CLS
    first, last = span
    if first > last:
        return IGNORED, IGNORED
    if first < start or last >= start + room:
        return CLS, CLS
    return context_at + first - start, context_at + last - start
