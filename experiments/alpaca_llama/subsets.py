"""Which records a run sees: all of them, or a named subset listed in this folder.

A subset file lists, for each split, the rows of the official file with the first digits of each
record's digest. It was made by `draw`, and a record that is not the listed one is refused.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from experiments.alpaca_llama.data import Record, Split
from experiments.harness.files import read_json
from zia_core.errors import ZiaError

FULL = "full"
DIGEST_DIGITS = 12


@dataclass(frozen=True)
class Splits:
    """The records of a run; nothing is chosen on `validation`, that is what development is for."""

    train: list[Record]
    validation: list[Record]
    development: list[Record]


def subset_names() -> list[str]:
    """Return what `select` knows: "full" and every subset file beside this module."""
    return [FULL, *sorted(path.stem for path in Path(__file__).parent.glob("reduced-*.json"))]


def select(records: Sequence[Record], name: str) -> Splits:
    """Return the records of the data named `name`, in the order of their rows (full) or as listed.

    ZiaError for an unknown name, and for a listed record that is missing or has another text.
    """
    if name not in subset_names():
        raise ZiaError(f"no data named {name!r:.60}; there are: {', '.join(subset_names())}")
    if name == FULL:
        parts = {split: [r for r in records if r.split == split] for split in get_args(Split)}
    else:
        listed = read_json(Path(__file__).with_name(f"{name}.json"))
        by_id = {record.id: record for record in records}
        parts = {
            split: [_listed(by_id, row, digest, name) for row, digest in listed[split]]
            for split in get_args(Split)
        }
    return Splits(**parts)


def draw(records: Sequence[Record], split: Split, size: int) -> list[tuple[int, str]]:
    """Return rows and digests of `size` records of a split: those with the lowest digests.

    So a larger subset holds every smaller one, and none depends on the order of the file.
    """
    chosen = sorted((r.digest, r.id) for r in records if r.split == split)[:size]
    return [(row, digest[:DIGEST_DIGITS]) for digest, row in chosen]


def _listed(by_id: dict[int, Record], row: int, digest: str, name: str) -> Record:
    record = by_id.get(row)
    if record is None or not record.digest.startswith(digest):
        fault = "is missing" if record is None else "has another text"
        raise ZiaError(
            f"record {row}, which the subset {name} lists, {fault} in these Alpaca data: use "
            "Stanford Alpaca's official alpaca_data.json, in its own order"
        )
    return record
