"""The records of a run: all of them, or a named subset listed in this folder.

`mini`: the instructions of the generated world, in its own splits, which share no creature.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from experiments.alpaca_llama.data import Record, Split
from experiments.data import subsets
from experiments.mini_world.creatures import SPLITS
from experiments.mini_world.instructions import instructions
from zia_core.errors import ZiaError

FOLDER = Path(__file__).parent
MINI = "mini"
REMEDY = "these Alpaca data: use Stanford Alpaca's official alpaca_data.json, in its own order"


@dataclass(frozen=True)
class Splits:
    """The records of a run; choices are made on `development`, never on `validation`."""

    train: list[Record]
    validation: list[Record]
    development: list[Record]


def subset_names() -> list[str]:
    """Return the names that `select` knows."""
    return [*subsets.subset_names(FOLDER), MINI]


def select(records: Sequence[Record], name: str) -> Splits:
    """Return the records of a named data set, in the order of their rows or as listed.

    ZiaError for an unknown name, and for a listed record that is missing or has another text.
    """
    if name in (subsets.FULL, subsets.SAMPLE):
        parts = {split: _of(records, split) for split in get_args(Split)}
        if name == subsets.SAMPLE:
            parts = {s: subsets.sample(part, trained=s == "train") for s, part in parts.items()}
        return Splits(**parts)
    if name == MINI:
        return _generated(records)
    subsets.check_name(name, subset_names())
    content = subsets.read_subset(FOLDER, name)
    by_id = {record.id: record for record in records}
    return Splits(
        **{split: subsets.listed(by_id, content[split], name, REMEDY) for split in get_args(Split)}
    )


def draw(records: Sequence[Record], split: Split, size: int) -> list[tuple[int, str]]:
    """Return rows and digests of `size` records of a split, see `experiments.data.subsets.draw`."""
    return subsets.draw(_of(records, split), size)


def _generated(records: Sequence[Record]) -> Splits:
    listed = instructions()
    texts = [(each.instruction, each.input, each.output) for each in listed]
    if [(record.instruction, record.input, record.output) for record in records] != texts:
        raise ZiaError(
            "these Alpaca data are not the generated world's, which the subset mini is of: choose "
            "the profile mini, or other data"
        )
    parts = {
        split: [record for record, each in zip(records, listed, strict=True) if each.split == split]
        for split in SPLITS
    }
    # The world's test set is reported.
    return Splits(parts["train"], validation=parts["test"], development=parts["val"])


def _of(records: Sequence[Record], split: str) -> list[Record]:
    return [record for record in records if record.split == split]
