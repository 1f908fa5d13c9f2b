"""Tokenised texts in flat arrays, and batches of them padded on the right."""

from bisect import bisect_right
from collections.abc import Iterable, Sequence
from itertools import chain
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from datasets import Dataset
    from torch import Tensor


class TokenRows:
    """Rows of token ids, numbered from 0, of different lengths.

    A batch is then a few copies of memory: no row is read from a file or made of Python's integers
    while a GPU waits for it.
    """

    def __init__(self, parts: Sequence[NDArray[np.int32]], lengths: Iterable[int]) -> None:
        """Each part is a number of whole rows, one behind the other."""
        self._parts, self._ends = parts, np.cumsum([0, *lengths])
        self._starts = np.cumsum([0, *map(len, parts)]).tolist()

    @classmethod
    def of(cls, rows: Sequence[Sequence[int]]) -> Self:
        """The rows of a list."""
        return cls([np.fromiter(chain.from_iterable(rows), dtype=np.int32)], map(len, rows))

    @classmethod
    def in_column(cls, table: "Dataset", name: str) -> Self:
        """The rows of a column of int32 lists; what is mapped from a file stays there."""
        chunks = table.data.column(name).chunks
        parts = [chunk.flatten().to_numpy() for chunk in chunks]
        return cls(parts, chain.from_iterable(chunk.value_lengths().to_numpy() for chunk in chunks))

    def __len__(self) -> int:
        return len(self._ends) - 1

    def length(self, i: int) -> int:
        """Tokens of a row."""
        return int(self._ends[i + 1] - self._ends[i])

    def __getitem__(self, i: int) -> NDArray[np.int32]:
        """The ids of a row, [its length]."""
        start, end = self._ends[i], self._ends[i + 1]
        part = bisect_right(self._starts, start, hi=len(self._parts)) - 1
        return self._parts[part][start - self._starts[part] : end - self._starts[part]]

    def padded(
        self, indices: Sequence[int], padding: int = 0, multiple: int = 1
    ) -> tuple["Tensor", "Tensor"]:
        """Ids and mask of some rows, int64 [B, T] each; the mask is 1 where a token is.

        T is the longest row's length, rounded up to a multiple where few shapes are wanted.
        """
        import torch

        longest = max(map(self.length, indices))
        ids = torch.full((len(indices), -(-longest // multiple) * multiple), padding)
        mask = torch.zeros_like(ids)
        for row, i in enumerate(indices):
            own = torch.from_numpy(self[i].astype(np.int64))
            ids[row, : len(own)] = own
            mask[row, : len(own)] = 1
        return ids, mask
