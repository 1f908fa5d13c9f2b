"""Named subsets of official data: lists of ids, applied to the official files.

A subset is a file `reduced-<size>.json` in its experiment's folder, made by `draw`. For each split
it lists ids and the first digits of each record's digest; a record with another digest is refused.
"""

from collections.abc import Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol, TypeVar

from experiments.io.files import read_json
from zia_core.errors import ZiaError

FULL = "full"
# The first records of the official data, once these are loaded and checked in full: for rehearsals.
SAMPLE = "sample"
SAMPLE_TRAINED, SAMPLE_SCORED = 128, 16  # records to train on, and of each other part
DIGEST_DIGITS = 12


class Record(Protocol):
    """One record of a data set."""

    @property
    def id(self) -> Any:
        """Its id in the data set, a number or a string."""

    @property
    def digest(self) -> str:
        """A hash of its content, in hex."""


Listed = TypeVar("Listed", bound=Record)


def subset_names(folder: Path) -> list[str]:
    """Return the names of an experiment's data: "full", the subsets in its folder, "sample"."""
    return [FULL, *sorted(path.stem for path in folder.glob("reduced-*.json")), SAMPLE]


def check_name(name: str, names: Collection[str]) -> None:
    """Raise ZiaError, which lists the known names, for an unknown one."""
    if name not in names:
        raise ZiaError(f"no data named {name!r:.60}; there are: {', '.join(names)}")


def read_subset(folder: Path, name: str) -> dict[str, Any]:
    """Return the content of a subset's file; ZiaError for an unknown name."""
    check_name(name, subset_names(folder))
    return read_json(folder / f"{name}.json")


def listed(
    records: Mapping[Any, Listed], entries: Iterable[Sequence[Any]], subset: str, remedy: str
) -> list[Listed]:
    """Return the records of one split, in the order of its list.

    ZiaError, which ends with `remedy`, if one is missing or has other content.
    """
    return [_listed(records, identity, digest, subset, remedy) for identity, digest in entries]


def sample(records: Sequence[Any], *, trained: bool = False) -> list[Any]:
    """Return the records of one part of SAMPLE; `trained` if the part is trained on."""
    return list(records[: SAMPLE_TRAINED if trained else SAMPLE_SCORED])


def draw(records: Iterable[Record], size: int) -> list[tuple[Any, str]]:
    """Return ids and digests of the `size` records with the lowest digests.

    A larger subset contains every smaller one, and none depends on the order of the file.
    """
    chosen = sorted((record.digest, record.id) for record in records)[:size]
    return [(identity, digest[:DIGEST_DIGITS]) for digest, identity in chosen]


def _listed(
    records: Mapping[Any, Listed], identity: Any, digest: str, subset: str, remedy: str
) -> Listed:
    record = records.get(identity)
    if record is None or not record.digest.startswith(digest):
        fault = "is missing" if record is None else "has another text"
        raise ZiaError(f"record {identity}, which the subset {subset} lists, {fault} in {remedy}")
    return record
