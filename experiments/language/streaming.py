"""Decode rows of tokens into text while they are generated."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor
    from transformers import PreTrainedTokenizerBase

# Stands for bytes that are no character, or not yet one: for at most three of them.
UNFINISHED = "\N{REPLACEMENT CHARACTER}"
LONGEST_UNFINISHED = 3


class RowText:
    """The text of one row, without the space around it, in pieces of whole characters."""

    def __init__(
        self,
        tokenizer: "PreTrainedTokenizerBase",
        show: Callable[[str, bool], None],
        ends: Sequence[int] = (),
    ) -> None:
        """`show(piece, last)` is called whenever there is more text, and once at the end.

        `ends` are the tokens that end an answer, by default EOS.
        """
        self._ends = ends or [tokenizer.eos_token_id]
        self._tokenizer, self._show = tokenizer, show
        self._tokens: list[int] = []
        self._shown = ""
        self._ended = False

    def put(self, token: int) -> None:
        """Add a token; after the one that ends it there is only padding."""
        if self._ended:
            return
        if token in self._ends:
            self.end()
            return
        self._tokens.append(token)
        text = self._text()
        unfinished = len(text) - len(text.rstrip(UNFINISHED))
        # SentencePiece's bytes are no text, not even those that were, until the last is complete.
        if text.startswith(self._shown):
            unfinished = min(unfinished, LONGEST_UNFINISHED)
        # What ends the text may also turn out to be the space around it.
        piece = text[: len(text) - unfinished].rstrip()[len(self._shown) :]
        if piece:
            self._shown += piece
            self._show(piece, False)

    def end(self) -> None:
        """Show what was held back."""
        if not self._ended:
            self._ended = True
            self._show(self._text().rstrip()[len(self._shown) :], True)

    def _text(self) -> str:
        # All tokens at a time: a token's text depends on the tokens around it.
        text = self._tokenizer.decode(self._tokens, skip_special_tokens=True)
        assert isinstance(text, str)
        return text.lstrip()


class BatchStreamer:
    """A streamer for transformers' `generate`, whose own ones take one row."""

    def __init__(self, rows: Sequence[RowText]) -> None:
        self._rows = rows

    def put(self, tokens: "Tensor") -> None:
        """Take the next token of each row, (B,); the prompts, (B, T), come first."""
        if tokens.ndim == 1:
            for row, token in zip(self._rows, tokens.tolist(), strict=True):
                row.put(token)

    def end(self) -> None:
        """End the rows that stopped without EOS."""
        for row in self._rows:
            row.end()
