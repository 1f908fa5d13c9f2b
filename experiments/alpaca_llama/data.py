"""Alpaca's 52,002 records: the official JSON in `$ZIA_DATA`, or the hub; and their split.

The official code validates on its first 200 training rows. Here 2 % of the records are held out
for validation and 1 % for development (choices of settings), by a hash of their text alone.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experiments.data import hub
from experiments.data.files import (
    DATA_VARIABLE,
    official_file,
    parse_json,
    read_text,
    text_field,
    where_looked,
)
from experiments.io.files import canonical_json
from zia_core.errors import ZiaError

FILE = "alpaca/alpaca_data.json"
HUB_NAME = "tatsu-lab/alpaca"
HUB_REVISION = "dce01c9b08f87459cf36a430d809084718273017"

Split = Literal["train", "validation", "development"]


@dataclass(frozen=True, slots=True)
class Record:
    """One instruction with its answer; `id` is its row in the official file, from 0."""

    id: int
    instruction: str
    input: str  # empty where the instruction stands alone
    output: str

    @property
    def digest(self) -> str:
        """64 hex digits: the SHA-256 of the record's three texts."""
        return _sha256([self.instruction, self.input, self.output])

    @property
    def split(self) -> Split:
        """The part of the data that the record is in.

        A function of what is asked, not of the answer or the row: the same question can never be
        in two parts.
        """
        percent = int(_sha256([self.instruction, self.input])[:16], 16) % 100
        return "validation" if percent < 2 else "development" if percent < 3 else "train"


def load_alpaca() -> list[Record]:
    """Return all records, from `$ZIA_DATA/alpaca/alpaca_data.json[.gz]` or else from the hub.

    ZiaError, one sentence, if the file is damaged, if a record lacks a text, or if there is neither
    a file nor a hub.
    """
    path = official_file(FILE)
    if path is None:
        return _records(_hub_rows(), HUB_NAME)
    rows = parse_json(read_text(path), str(path))
    if not isinstance(rows, list) or not rows:
        raise ZiaError(f"{path} must hold a list of records, as Alpaca's official file does")
    return _records(rows, str(path))


def fingerprint(records: Sequence[Record]) -> str:
    """Return 64 hex digits that tell these records, in this order, from any others."""
    return _sha256([[record.id, record.digest] for record in records])


def _records(rows: Iterable[Any], source: str) -> list[Record]:
    records = []
    for row_number, row in enumerate(rows):
        where = f"{source}, record {row_number}"
        instruction, context, output = (
            text_field(row, field, where) for field in ("instruction", "input", "output")
        )
        records.append(Record(row_number, instruction, context, output))
    return records


def _hub_rows() -> Iterable[Any]:
    from datasets import load_dataset
    from datasets.exceptions import DatasetsError

    try:
        with hub.asked():
            rows: Iterable[Any] = load_dataset(HUB_NAME, revision=HUB_REVISION, split="train")
    except (OSError, DatasetsError) as error:  # the hub's connection errors are OSErrors
        raise ZiaError(
            f"no Alpaca data: {where_looked(FILE)}, and the hub's {HUB_NAME} cannot be loaded "
            f"({type(error).__name__}); put alpaca_data.json into the folder alpaca/ of "
            f"${DATA_VARIABLE}, or connect to the network"
        ) from error
    return rows


def _sha256(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
