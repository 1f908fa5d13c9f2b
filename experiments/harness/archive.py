"""Published runs: one zip per experiment and profile, read in place.

A member holds one kind of file of every run, end to end (`metrics.jsonl.bz2`, `result.json.bz2`,
...): the runs of a plan resemble each other, so together they take a third of the space.
`index.json.bz2` says which bytes of which unpacked member belong to a run:

    {"experiment": ..., "profile": ..., "runs": {RUN: {FILE: [first byte, number of bytes]}}}

Equal runs give equal bytes: runs and members are sorted, times and modes are fixed, and the output
of bzip2, unlike that of zlib and liblzma, does not depend on its version. A content that several
runs share is stored once. Each member has a checksum, and each run its seal.
"""

import bz2
import zipfile
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from experiments.io.files import canonical_json, replacing
from experiments.io.safe_names import is_file_name
from zia_core.errors import ZiaError
from zia_core.strict_json import loads

INDEX = "index.json"
SUFFIX = ".zip"
PACKED = ".bz2"
MOST_BYTES = 1 << 29  # of a member, unpacked: more would be a zip bomb
EPOCH = (1980, 1, 1, 0, 0, 0)  # the earliest time that a zip can hold
MODE = 0o100644 << 16
UNIX = 3
RESTORE = "restore the archive"
# What zipfile and the decompressors raise for bytes that are not a zip's.
DAMAGE = (
    *(OSError, EOFError, RuntimeError, ValueError, OverflowError),
    *(zipfile.BadZipFile, NotImplementedError),
)


class Part(NamedTuple):
    """Where in a member the bytes of one run are."""

    start: int
    size: int


class Archive:
    """The archive at `path`; ZiaError if it is damaged, which names the member.

    What was unpacked is kept, so use one instance for all runs.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._members: dict[str, bytes] = {}
        index = self._index
        self.experiment: str = index["experiment"]
        self.profile: str = index["profile"]

    @property
    def runs(self) -> "list[ArchivedRun]":
        """Its runs, sorted by name."""
        return [ArchivedRun(self, name) for name in sorted(self._index["runs"])]

    def files(self, run: str) -> dict[str, Part]:
        """Where the files of `run` are, by their names."""
        files: dict[str, Part] = self._index["runs"][run]
        return files

    def read(self, run: str, name: str) -> bytes:
        """The content of one file of `run`; FileNotFoundError if the run has no such file."""
        part = self.files(run).get(name)
        if part is None:
            raise FileNotFoundError(2, "no such file in the archive", f"{self.path}/{run}/{name}")
        content = self.member(name)
        if part.start + part.size > len(content):
            raise ZiaError(f"{self.path}: {INDEX} and {name} do not match: {RESTORE}")
        return content[part.start : part.start + part.size]

    def member(self, name: str) -> bytes:
        """The whole member `name`, whose checksum is right."""
        if name not in self._members:
            self._members[name] = self._unpacked(name)
        return self._members[name]

    def _unpacked(self, name: str) -> bytes:
        unpacker = bz2.BZ2Decompressor()
        try:
            with zipfile.ZipFile(self.path) as file:
                member = file.getinfo(name + PACKED)
                if member.compress_type != zipfile.ZIP_STORED:
                    raise ZiaError(f"{self.path}: the member {name} is packed twice: {RESTORE}")
                content = unpacker.decompress(file.read(member), MOST_BYTES + 1)
        except KeyError as error:
            raise ZiaError(f"{self.path} has no member {name}: {RESTORE}") from error
        except DAMAGE as error:
            raise ZiaError(
                f"{self.path}: the member {name} cannot be read ({error}): {RESTORE}"
            ) from error
        if len(content) > MOST_BYTES:
            raise ZiaError(
                f"{self.path}: the member {name} has more than the {MOST_BYTES} bytes that are "
                f"read: {RESTORE}"
            )
        if not unpacker.eof:
            raise ZiaError(f"{self.path}: the member {name} is cut short: {RESTORE}")
        return content

    @cached_property
    def _index(self) -> dict[str, Any]:
        try:
            index = loads(self.member(INDEX))
            names = index["experiment"], index["profile"], *index["runs"]
            runs = {
                run: {name: Part(*part) for name, part in files.items()}
                for run, files in index["runs"].items()
            }
        except (AttributeError, KeyError, TypeError, ValueError) as error:
            raise self._invalid("not of the form of an archive's") from error
        parts = [part for files in runs.values() for part in files.values()]
        names += tuple(name for files in runs.values() for name in files)
        for name in names:
            if not is_file_name(name):
                raise self._invalid(f"{name!r:.80} is not a plain name")
        if not all(type(number) is int and number >= 0 for part in parts for number in part):
            raise self._invalid("a position is not a whole number")
        return {"experiment": names[0], "profile": names[1], "runs": runs}

    def _invalid(self, what: str) -> ZiaError:
        return ZiaError(f"{self.path}: {INDEX}: {what}: {RESTORE}")


@dataclass(frozen=True)
class ArchivedRun:
    """One run of an archive; used like the `Path` of a run folder where that is only read."""

    archive: Archive
    name: str

    def __str__(self) -> str:
        return f"{self.archive.path}/{self.name}"

    def __truediv__(self, file: str) -> "ArchivedFile":
        return ArchivedFile(self, file)

    @property
    def files(self) -> list[str]:
        """The names of its files, sorted."""
        return sorted(self.archive.files(self.name))

    def contents(self) -> dict[str, bytes]:
        """Its files, by their names."""
        return {name: self.archive.read(self.name, name) for name in self.files}


@dataclass(frozen=True)
class ArchivedFile:
    """One file of an archived run, which need not exist."""

    run: ArchivedRun
    name: str

    def __str__(self) -> str:
        return f"{self.run}/{self.name}"

    def exists(self) -> bool:
        """Whether the run has it."""
        return self.name in self.run.files

    def read_bytes(self) -> bytes:
        """Its content; FileNotFoundError if the run does not have it."""
        return self.run.archive.read(self.run.name, self.name)


RunPath = Path | ArchivedRun
FilePath = Path | ArchivedFile


def write(
    path: Path, experiment: str, profile: str, runs: Mapping[str, Mapping[str, bytes]]
) -> None:
    """Replace the archive at `path` in one step by one of these runs: their files by their names.

    ZiaError if it cannot be written; then what was there before is unchanged.
    """
    members: dict[str, bytearray] = defaultdict(bytearray)
    parts: dict[tuple[str, bytes], Part] = {}
    index: dict[str, dict[str, Part]] = {}
    for run, files in sorted(runs.items()):
        index[run] = {}
        for name, content in sorted(files.items()):
            key = name, sha256(content).digest()
            if key not in parts:
                parts[key] = Part(len(members[name]), len(content))
                members[name] += content
            index[run][name] = parts[key]
    head = canonical_json({"experiment": experiment, "profile": profile, "runs": index})
    with replacing(path) as temporary, zipfile.ZipFile(temporary, "w") as file:
        for name in (INDEX, *sorted(members)):
            content = head.encode() if name == INDEX else bytes(members[name])
            member = zipfile.ZipInfo(name + PACKED, EPOCH)
            member.create_system, member.external_attr = UNIX, MODE
            file.writestr(member, bz2.compress(content))


def file_name(experiment: str, profile: str) -> str:
    """The name of the archive of an experiment's profile."""
    return f"{experiment}-{profile}{SUFFIX}"


def experiment_of(path: Path) -> str:
    """The experiment that an archive's file name names, for one whose index cannot be read."""
    return path.stem.rpartition("-")[0]


def archives(folder: Path) -> list[Path]:
    """The archives in `folder`, sorted; hidden files (one that is being written) are none."""
    return sorted(path for path in folder.glob(f"*{SUFFIX}") if not path.name.startswith("."))
