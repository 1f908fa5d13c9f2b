from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from datasets import Dataset, Features, List, Value, concatenate_datasets

from experiments.language.token_rows import TokenRows, padded

ROWS = [[5, 6, 7], [8], [], [9, 10, 11, 12, 13], [14, 15]]


def column(folder: Path) -> TokenRows:
    """In three pieces, of which one is cut out of a longer one."""
    kinds = Features({"ids": List(Value("int32"))})
    parts = [ROWS[:2], [[99], *ROWS[2:4]], ROWS[4:]]
    tables = [Dataset.from_dict({"ids": part}, features=kinds) for part in parts]
    tables[1] = tables[1].select(range(1, 3))
    return TokenRows.in_column(concatenate_datasets(tables), "ids")


@pytest.mark.parametrize("make", [lambda _: TokenRows.of(ROWS), column], ids=["list", "column"])
def test_rows_come_back(tmp_path: Path, make: Callable[[Path], TokenRows]) -> None:
    rows = make(tmp_path)
    assert len(rows) == len(ROWS)
    assert [rows[i].tolist() for i in range(len(rows))] == ROWS
    assert [rows.length(i) for i in range(len(rows))] == list(map(len, ROWS))


def test_padding_is_on_the_right_and_as_wide_as_asked() -> None:
    rows = TokenRows.of(ROWS)
    ids, mask = rows.padded([0, 4], padding=1)
    assert ids.tolist() == [[5, 6, 7], [14, 15, 1]]
    assert mask.tolist() == [[1, 1, 1], [1, 1, 0]]
    assert ids.dtype == mask.dtype == torch.int64
    wider, mask = rows.padded([0, 4], multiple=4)
    assert wider.tolist() == [[5, 6, 7, 0], [14, 15, 0, 0]]
    assert mask.sum() == 5
    assert rows.padded([3], multiple=5)[0].shape == (1, 5)


def test_a_read_only_file_is_read_without_a_warning() -> None:
    ids = np.arange(3, dtype=np.int32)
    ids.flags.writeable = False
    assert TokenRows([ids], [3]).padded([0])[0].tolist() == [[0, 1, 2]]


def test_padding_on_the_left_lets_all_rows_end_together() -> None:
    ids, mask = padded([ROWS[0], ROWS[4]], 1, "left", multiple=4)
    assert ids.tolist() == [[1, 5, 6, 7], [1, 1, 14, 15]]
    assert mask.tolist() == [[0, 1, 1, 1], [0, 0, 1, 1]]
