"""Rows of token ids in flat arrays, and padded batches of them."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Literal, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor


class TokenRows:
    """Rows of token ids of different lengths, numbered from 0.

    A batch costs a few copies of memory, so a GPU does not wait for files or Python lists.
    """

    def __init__(self, parts: Sequence[NDArray[np.int32]], lengths: Iterable[int]) -> None:
        """Each part holds whole rows, one after the other."""
        self._parts, self._ends = parts, np.cumsum([0, *lengths])
        self._starts = np.cumsum([0, *map(len, parts)]).tolist()

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Self:
        """The rows of a list."""
        return cls([np.fromiter(chain.from_iterable(rows), dtype=np.int32)], map(len, rows))

    @classmethod
    def in_column(cls, table: "Dataset", name: str) -> Self:
        """The rows of a column of int32 lists; memory-mapped ones stay in their file."""
        chunks = table.data.column(name).chunks
        parts = [chunk.flatten().to_numpy() for chunk in chunks]
        return cls(parts, chain.from_iterable(chunk.value_lengths().to_numpy() for chunk in chunks))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def length(self, i: int) -> int:
        """The number of tokens of a row."""
        return int(self._ends[i + 1] - self._ends[i])

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        """The ids of a row, (length,)."""
        start, end = self._ends[i], self._ends[i + 1]
        part = bisect_right(self._starts, start, hi=len(self._parts)) - 1
        return self._parts[part][start - self._starts[part] : end - self._starts[part]]

    def padded(
        self, indices: Sequence[int], padding: int = 0, multiple: int = 1
    ) -> tuple["Tensor", "Tensor"]:
        """The ids and mask of some rows, padded on the right to a multiple: see `padded`."""
        return padded([self[i] for i in indices], padding, multiple=multiple)


def padded(
    rows: Sequence[Sequence[int] | NDArray[np.int32]],
    padding: int = 0,
    side: Literal["left", "right"] = "right",
    multiple: int = 1,
) -> tuple["Tensor", "Tensor"]:
    """Ids and mask, (B, T) int64 each; the mask is 1 where there is a token.

    T is the longest row's length, rounded up to a multiple for models that want few shapes.
    """
    import torch
    from torch.nn.utils.rnn import pad_sequence

    tensors = [torch.from_numpy(np.asarray(row, np.int64)) for row in rows]
    lengths = torch.tensor([[len(row)] for row in tensors])
    width = -(-int(lengths.max()) // multiple) * multiple
    # A row as wide as the batch is to be, and left out again, makes the others as wide.
    tensors.append(torch.zeros(width, dtype=torch.int64))
    ids = pad_sequence(tensors, True, padding, side)[:-1]
    place = torch.arange(width)
    mask = place < lengths if side == "right" else place >= width - lengths
    return ids, mask.long()
