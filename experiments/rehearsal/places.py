"""The folder of a rehearsal: its own data, weights, caches, runs and tables.

Where real data are in $ZIA_DATA, they are used; what is missing is generated.
"""

import os
import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from experiments.backbones import own
from experiments.data.files import DATA_VARIABLE
from experiments.harness import registry
from experiments.harness.experiment import Models
from experiments.harness.needs import WEIGHTS_VARIABLE, DataSet, together
from experiments.harness.spec import RunSpec
from experiments.io.files import write_errors
from experiments.rehearsal.twins import folder_of, is_listed, write_twin


@dataclass(frozen=True)
class Places:
    """The folders of a rehearsal."""

    root: Path

    @property
    def data(self) -> Path:
        """Links to real data, and generated data; for $ZIA_DATA."""
        return self.root / "data"

    @property
    def weights(self) -> Path:
        """Twins of the backbones; for $ZIA_WEIGHTS."""
        return self.root / "weights"

    @property
    def runs(self) -> Path:
        """The runs."""
        return self.root / "runs"

    @property
    def out(self) -> Path:
        """Tables, figures, claims and report."""
        return self.root / "out"

    def prepare(self, specs: Sequence[RunSpec], *, real_weights: bool) -> Iterator[str]:
        """Provide the data and weights of planned runs; yield a line for each that is not real.

        What is there already, from an interrupted rehearsal, is kept.
        """
        needed = together(registry.get(spec.experiment).needs(spec) for spec in specs).data
        with write_errors(self.root):
            for folder, write in _writers(specs).items():
                inside = [d for d in needed if any(p.startswith(f"{folder}/") for p in d.paths)]
                if not self._link(folder, inside):
                    self._generate(folder, write)
                    names = ", ".join(each.name for each in inside)
                    yield f"generated: {names or folder}, in {self.data / folder}"
            if not real_weights:
                self.weights.mkdir(parents=True, exist_ok=True)
                for name in dict.fromkeys(_models_of(specs)):
                    if not own.is_own(name):  # which has its twin by now
                        yield from _told(name, write_twin(name, self.weights))

    def twins_of(self, models: Models) -> tuple[Models, list[str]]:
        """Replace models that are not in the project's lists by twins; with a line for each."""
        twins, lines = asdict(models), list[str]()
        for option in ("backbone", "encoder"):
            asked = twins[option]
            if asked is None or is_listed(asked):
                continue
            name = own.named(asked, ())
            with write_errors(self.root):
                lines += _told(name, write_twin(name, self.weights))
            twins[option] = str(self.weights / folder_of(name))
        return Models(**twins), lines

    def use(self, *, real_weights: bool) -> None:
        """Let this process, and those that it starts, read and cache here."""
        os.environ[DATA_VARIABLE] = str(self.data.absolute())
        os.environ["HF_DATASETS_CACHE"] = str((self.root / "cache").absolute())
        if not real_weights:
            os.environ[WEIGHTS_VARIABLE] = str(self.weights.absolute())
            os.environ["HF_HUB_OFFLINE"] = "1"

    def clear_runs(self) -> None:
        """Delete runs and tables, so that everything is done again."""
        for folder in (self.runs, self.out):
            shutil.rmtree(folder, ignore_errors=True)

    def _link(self, folder: str, needed: Sequence[DataSet]) -> bool:
        """Link a folder of real data, if all that is needed is there; return whether it is."""
        target = self.data / folder
        if target.is_symlink():
            target.unlink()
        if not needed or any(each.missing() for each in needed):
            return False
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(Path(os.environ[DATA_VARIABLE], folder).absolute())
        return True

    def _generate(self, folder: str, write: Callable[[Path], None]) -> None:
        target = self.data / folder
        if target.is_dir():
            return
        staging = target.with_name(f".{target.name}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.parent.mkdir(parents=True, exist_ok=True)
        write(staging)
        staging.rename(target)


def _told(name: str, taken: str) -> Iterator[str]:
    if taken != "released":
        yield f"twin: {name}, with {taken or 'nothing'} of the real one"


def _writers(specs: Iterable[RunSpec]) -> dict[str, Callable[[Path], None]]:
    """By folder in $ZIA_DATA."""
    found: dict[str, Callable[[Path], None]] = {}
    for name in dict.fromkeys(spec.experiment for spec in specs):
        if rehearsal := registry.get(name).rehearsal:
            found |= rehearsal.write
    return found


def _models_of(specs: Iterable[RunSpec]) -> Iterator[str]:
    for spec in specs:
        yield spec.backbone
        if encoder := getattr(spec.settings, "encoder", None):
            yield encoder
