"""Plan and do what `zia fetch` does."""

import os
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from experiments.fetch import repository
from experiments.fetch.from_folder import Held
from experiments.fetch.items import (
    DATA_FILES,
    FETCHING,
    WEIGHTS_FILES,
    HeldFiles,
    HubFiles,
    Weights,
    changed,
    data_root,
)
from experiments.fetch.lock import Kind, Lock
from experiments.fetch.repository import Listing
from experiments.harness.needs import DataSet, Needs, Source
from experiments.io.output import tell
from zia_core.errors import ZiaError

Item = Weights | HubFiles | HeldFiles


@dataclass
class Plan:
    """What is to be fetched, and sentences about what cannot be."""

    lock: Lock
    held: list[Held] = field(default_factory=list)
    items: dict[str, Item] = field(default_factory=dict)
    there: list[Source | DataSet] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    remarks: list[str] = field(default_factory=list)  # about what a run does without
    _listings: dict[tuple[Kind, str], Listing] = field(default_factory=dict)

    def add(self, needs: Needs) -> None:
        """Look at each model and data set, and ask the hub about those that are missing."""
        for source in needs.weights:
            with self._noting():
                self._add_weights(source)
        for data in needs.data:
            with self._noting(optional=data.optional):
                self._add_data(data)

    def _add_weights(self, source: Source) -> None:
        if source.released:
            return
        if source.local.is_dir() and any(source.local.iterdir()):
            self.there.append(source)
        elif source.hub is None:
            raise ZiaError(f"{source.name} is not on the hub: {source.howto}")
        else:
            listed = self._listing("models", source.hub, source.revision, WEIGHTS_FILES)
            self.items[source.name] = Weights(source, listed)

    def _add_data(self, data: DataSet) -> None:
        data_root()
        missing = data.missing()
        if not missing:
            self.there.append(data)
        elif data.hub is not None and len(missing) == len(data.paths) and not self._holds(data):
            listed = self._listing("datasets", data.hub.name, data.hub.revision, DATA_FILES)
            self.items[data.name] = HubFiles(data, data.hub, listed)
        elif self.held:
            self.items[data.name] = HeldFiles(data, self.held)
        else:
            raise ZiaError(
                f"{data.name} is on no hub and lacks {', '.join(missing)}. Get {data.source}; then "
                "add --from FOLDER, the folder where the files or archives are"
                if data.hub is None
                else f"{data.name} lacks {', '.join(missing)}: move the rest away to fetch it "
                "whole, or add --from FOLDER"
            )

    def _holds(self, data: DataSet) -> bool:
        names = {path.rstrip("/").rpartition("/")[2] for path in data.paths}
        return any(names & {*each.name.removesuffix(".gz").split("/")} for each in self.held)

    def _listing(
        self, kind: Kind, name: str, revision: str | None, patterns: Sequence[str]
    ) -> Listing:
        if (kind, name) not in self._listings:
            known = self.lock.get(kind, name)
            revision = revision or (known["revision"] if known else None)
            self._listings[kind, name] = repository.listing(kind, name, revision, patterns)
        return self._listings[kind, name]

    def _noting(self, *, optional: bool = False) -> "_Noting":
        return _Noting(self.remarks if optional else self.problems)

    def show(self) -> None:
        """Print what is there, and what will come from where and how much of it."""
        for each in self.there:
            tell(f"{each.name}: there")
        for name, item in self.items.items():
            if isinstance(item, HeldFiles):
                tell(f"{name}: {', '.join(item.data.missing())}, from the folder of --from")
            else:
                listed = item.listed
                tell(f"{name}: {gigabytes(listed.size)}, {listed.name}@{listed.revision[:12]}")
        # Data sets may share a repository.
        size = sum({(each.kind, each.name): each.size for each in self._wanted()}.values())
        tell(f"to fetch: {gigabytes(size)}")

    def _wanted(self) -> Iterator[Listing]:
        yield from (i.listed for i in self.items.values() if not isinstance(i, HeldFiles))

    def check_room(self) -> None:
        """Raise ZiaError unless the disks have room for all; what has arrived is counted."""
        wanted: dict[int, tuple[Path, int]] = {}
        rooms = {i.staging: i.room for i in self.items.values() if not isinstance(i, HeldFiles)}
        for staging, room in rooms.items():
            place = next(p for p in staging.absolute().parents if p.exists())
            device = place.stat().st_dev
            arrived = sum(p.stat().st_size for p in staging.rglob("*") if p.is_file())
            before = wanted.get(device, (place, 0))[1]
            wanted[device] = (place, before + max(0, room - arrived))
        for place, size in wanted.values():
            free = shutil.disk_usage(place).free
            if size > free:
                raise ZiaError(
                    f"{place} has {gigabytes(free)} free and {gigabytes(size)} are needed: make "
                    "room, or set $ZIA_WEIGHTS and $ZIA_DATA to folders on a larger disk"
                )

    def fetch(self) -> None:
        """Fetch every item and check what was there; a failure does not stop the others."""
        for each in self.there:
            optional = isinstance(each, DataSet) and each.optional
            with self._noting(optional=optional):
                if isinstance(each, DataSet):
                    each.load()
                elif sentence := changed(each, self.lock):
                    raise ZiaError(sentence)
        for name, item in self.items.items():
            optional = not isinstance(item, Weights) and item.data.optional
            with self._noting(optional=optional):
                item.fetch(self.lock)
                tell(f"{name}: done")
        # Only if nothing is left to resume.
        if not self.problems and os.environ.get("ZIA_DATA"):
            shutil.rmtree(data_root() / FETCHING, ignore_errors=True)


class _Noting:
    """A block whose ZiaError becomes a sentence in a list."""

    def __init__(self, sentences: list[str]) -> None:
        self.sentences = sentences

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> bool:
        if isinstance(error, ZiaError):
            if str(error) not in self.sentences:
                self.sentences.append(str(error))
            return True
        return False


def gigabytes(size: int) -> str:
    """A size in GB or MB."""
    return f"{size / 1e9:,.1f} GB" if size >= 1e9 else f"{size / 1e6:,.1f} MB"
