"""What is to be fetched, item by item: where from, how much, and how."""

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from experiments.data import hub
from experiments.data.files import DATA_VARIABLE
from experiments.fetch import repository
from experiments.fetch.from_folder import Held, collect
from experiments.fetch.lock import Lock
from experiments.fetch.repository import Listing
from experiments.harness.needs import DataSet, HubData, ReadRows, Source
from experiments.harness.provenance import data_fingerprint
from experiments.io.files import sha256_file, write_errors
from zia_core.errors import ZiaError

FETCHING = "fetching"  # a folder beside what it becomes; not hidden, since `datasets` skips those
WEIGHTS_FILES = ("*.json", "*.safetensors", "*.txt", "*.jinja", "tokenizer*")
# The card says which files are which split.
DATA_FILES = ("*.parquet", "README.md")


@dataclass(frozen=True)
class Weights:
    """The weights of a model, from the hub."""

    source: Source
    listed: Listing

    @property
    def staging(self) -> Path:
        """Where the files arrive."""
        return self.source.local.parent / FETCHING / self.source.folder

    @property
    def room(self) -> int:
        """The bytes that will be written."""
        return self.listed.size

    def fetch(self, lock: Lock) -> None:
        """Download, verify and record; the model's folder appears complete or not at all."""
        files = repository.download(self.listed, self.staging)
        with write_errors(self.source.local):
            shutil.rmtree(self.staging / ".cache", ignore_errors=True)  # the client's notes
            self.source.local.parent.mkdir(parents=True, exist_ok=True)
            self.staging.rename(self.source.local)
        entry = {"revision": self.listed.revision, "files": files}
        lock.record("models", self.listed.name, entry)


@dataclass(frozen=True)
class HubFiles:
    """A data set from the hub, converted to its official files."""

    data: DataSet
    source: HubData
    listed: Listing

    @property
    def staging(self) -> Path:
        """Where the hub's files arrive."""
        return data_root() / FETCHING / self.listed.name.replace("/", "--")

    @property
    def room(self) -> int:
        """The bytes that will be written: the hub's files and, about as large, the official."""
        return 2 * self.listed.size

    def fetch(self, lock: Lock) -> None:
        """Download, verify, convert, check and record."""
        files = repository.download(self.listed, self.staging)
        with _made_below(data_root(), self.data) as made:
            self.source.write(_read_rows(self.staging), made)
        known = lock.get("datasets", self.listed.name) or {}
        written = known.get("written", {}) if known.get("revision") == self.listed.revision else {}
        written |= {path: data_fingerprint(data_root() / path) for path in self.data.paths}
        entry = {"revision": self.listed.revision, "files": files, "written": written}
        lock.record("datasets", self.listed.name, entry)


@dataclass(frozen=True)
class HeldFiles:
    """A data set in the folder of `--from`."""

    data: DataSet
    held: list[Held]

    def fetch(self, lock: Lock) -> None:
        """Copy or unpack what is missing, and check the set."""
        with _made_below(data_root(), self.data) as made:
            if lost := collect(self.data, self.held, made):
                raise ZiaError(f"the folder of --from has no {', '.join(lost)}: {self.data.source}")


def data_root() -> Path:
    """The folder $ZIA_DATA; ZiaError if it is not set."""
    folder = os.environ.get(DATA_VARIABLE)
    if not folder:
        raise ZiaError(f"set ${DATA_VARIABLE} to the folder where data sets go")
    return Path(folder)


def changed(source: Source, lock: Lock) -> str:
    """A sentence if weights that are there are not those of the lock file, or an empty one."""
    for name, digest in lock.model_files(source.hub, source.revision).items():
        path = source.local / name
        if not path.exists() or sha256_file(path) != digest:
            fault = "is not the file that" if path.exists() else "is missing;"
            return (
                f"{path} {fault} {lock.path} records: move {source.local} away and fetch it again"
            )
    return ""


def _read_rows(folder: Path) -> ReadRows:
    def rows(split: str) -> Iterator[dict[str, object]]:
        from datasets import load_dataset

        with hub.asked():
            found = load_dataset(str(folder), split=split, streaming=True)
        yield from found.decode(False)

    return rows


@contextmanager
def _made_below(root: Path, data: DataSet) -> Iterator[Path]:
    """A folder to write files of `data` into, which then become those of $ZIA_DATA.

    If the set is not what it should be, $ZIA_DATA is left as it was.
    """
    made = root / FETCHING / "made"
    shutil.rmtree(made, ignore_errors=True)
    placed: list[Path] = []
    try:
        with write_errors(made):
            for path in data.paths:
                (made / path).parent.mkdir(parents=True, exist_ok=True)
        yield made
        with write_errors(root):
            for path in data.paths:
                for found in (made / path, made / f"{path.rstrip('/')}.gz"):
                    target = root / found.relative_to(made)
                    if found.exists() and not target.exists():
                        target.parent.mkdir(parents=True, exist_ok=True)
                        found.rename(target)
                        placed.append(target)
        data.load()
    except BaseException:
        for each in placed:
            shutil.rmtree(each) if each.is_dir() else each.unlink()
        raise
    finally:
        shutil.rmtree(made, ignore_errors=True)
