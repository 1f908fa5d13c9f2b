"""Load Alpaca's 52,002 records from `$ZIA_DATA` or the hub, and split them.

The official code validates on its first 200 training rows. Here a hash of the text holds out 2 % of
the records for validation and 1 % for development (choices of settings).
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from experiments.data import hub
from experiments.data.files import official_file, parse_json, read_text, text_field
from experiments.io.files import canonical_json
from zia_core.errors import ZiaError

FILE = "alpaca/alpaca_data.json"
HUB_NAME = "tatsu-lab/alpaca"
HUB_REVISION = "dce01c9b08f87459cf36a430d809084718273017"

Split = Literal["train", "validation", "development"]


@dataclass(frozen=True, slots=True)
class Record:
    """One instruction with its answer; `id` is its row in the official file."""

    id: int
    instruction: str
    input: str  # may be empty
    output: str

    @property
    def digest(self) -> str:
        """The SHA-256 of the record's three texts, in hex."""
        return _sha256([self.instruction, self.input, self.output])

    @property
    def split(self) -> Split:
        """The part of the data that the record is in.

        It depends on the question alone, not on the answer or the row, so the same question is
        never in two parts.
        """
        percent = int(_sha256([self.instruction, self.input])[:16], 16) % 100
        return "validation" if percent < 2 else "development" if percent < 3 else "train"


def load_alpaca() -> list[Record]:
    """Return all records, from `$ZIA_DATA/alpaca/alpaca_data.json[.gz]` or else from the hub.

    ZiaError if the file is damaged, a record lacks a text, or there is neither a file nor a hub.
    """
    path = official_file(FILE)
    if path is None:
        return _records(hub.rows("Alpaca", FILE, HUB_NAME, HUB_REVISION, "train"), HUB_NAME)
    rows = parse_json(read_text(path), str(path))
    if not isinstance(rows, list) or not rows:
        raise ZiaError(f"{path} must hold a list of records, as Alpaca's official file does")
    return _records(rows, str(path))


def fingerprint(records: Sequence[Record]) -> str:
    """A SHA-256 that identifies these records in this order."""
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


def _sha256(value: object) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()
