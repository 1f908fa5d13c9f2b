"""What a run reads: the weights of models and the data sets.

Each experiment says it in its `needs.py`; `zia fetch` brings it and `zia check` looks for it.
"""

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from experiments.data.files import DATA_VARIABLE, official_file
from experiments.harness.provenance import PROJECT

WEIGHTS_VARIABLE = "ZIA_WEIGHTS"
CONFIG = "config.json"


@dataclass(frozen=True)
class Source:
    """Where a model's weights come from."""

    name: str
    folder: str  # in $ZIA_WEIGHTS, or absolute
    hub: str | None = None
    revision: str | None = None
    gguf: bool = False
    released: bool = False  # with the project
    howto: str = ""  # how to get the weights without the hub
    marker: str = CONFIG  # a folder without this file is ignored

    @property
    def local(self) -> Path:
        """The folder in $ZIA_WEIGHTS, which need not exist."""
        return weights_root() / self.folder


def weights_root() -> Path:
    """The folder that $ZIA_WEIGHTS names."""
    return Path(os.environ.get(WEIGHTS_VARIABLE) or PROJECT / "weights")


# The rows of a split of a data set at the hub, as Python values; images are their encoded bytes.
ReadRows = Callable[[str], Iterator[dict[str, Any]]]


@dataclass(frozen=True)
class HubData:
    """A data set at the hub, and how it becomes the official files.

    `write(rows, folder)` writes below `folder`, which stands for $ZIA_DATA.
    """

    name: str
    revision: str | None  # None: recorded when it is first fetched
    write: Callable[[ReadRows, Path], None]


@dataclass(frozen=True)
class DataSet:
    """Official files that a run reads, below $ZIA_DATA."""

    name: str
    paths: tuple[str, ...]  # files, which may have .gz added, and folders, which end in a slash
    source: str  # where people get it
    load: Callable[[], object]  # reads and checks all of it; ZiaError if anything is wrong
    hub: HubData | None = None
    optional: bool = False  # a run does without, and says so
    # The name of another file that people have, and what it becomes: contents by path.
    made_from: tuple[str, Callable[[bytes], Mapping[str, bytes]]] | None = None

    def missing(self) -> list[str]:
        """The paths that $ZIA_DATA lacks."""
        return [path for path in self.paths if not _is_there(path)]


@dataclass(frozen=True)
class Needs:
    """What a run reads; nothing of it for what the project generates or trains itself."""

    weights: tuple[Source, ...] = ()
    data: tuple[DataSet, ...] = ()


def together(needs: Iterable[Needs]) -> Needs:
    """What several runs read, each source and data set once by its name."""
    weights: dict[str, Source] = {}
    data: dict[str, DataSet] = {}
    for each in needs:
        weights |= {source.name: source for source in each.weights}
        for found in each.data:  # whoever cannot do without decides
            if found.name not in data or data[found.name].optional:
                data[found.name] = found
    return Needs(tuple(weights.values()), tuple(data.values()))


def _is_there(path: str) -> bool:
    if not path.endswith("/"):
        return official_file(path) is not None
    folder = os.environ.get(DATA_VARIABLE)
    return bool(folder) and Path(folder or "", path).is_dir()
