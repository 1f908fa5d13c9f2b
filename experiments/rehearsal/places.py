"""The folder of a rehearsal: its own data, weights, caches, runs and tables.

Where real data are in $ZIA_DATA, they are used; what is missing is generated.
"""

import os
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.data.files import DATA_VARIABLE
from experiments.harness import registry
from experiments.harness.needs import WEIGHTS_VARIABLE
from experiments.harness.rehearsal import GeneratedData
from experiments.harness.spec import RunSpec
from experiments.io.files import write_errors
from experiments.rehearsal.twins import write_twin


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
        """Provide the data and weights of the runs; yield a line for each that is not real.

        What is there already, from an interrupted rehearsal, is kept.
        """
        with write_errors(self.root):
            for each in dict.fromkeys(_data_of(specs)):
                if not self._link(each):
                    self._generate(each)
                    yield f"generated: {each.title}, in {self.data / each.folder}"
            if not real_weights:
                self.weights.mkdir(parents=True, exist_ok=True)
                for name in dict.fromkeys(_models_of(specs)):
                    taken = write_twin(name, self.weights)
                    if taken != "released":
                        yield f"twin: {name}, with {taken or 'nothing'} of the real one"

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

    def _link(self, data: GeneratedData) -> bool:
        """Link the real data, if they are there; return whether they are."""
        target = self.data / data.folder
        if target.is_symlink():
            target.unlink()
        folder = os.environ.get(DATA_VARIABLE)
        real = Path(folder, data.folder).absolute() if folder else None
        if real is None or not all(
            (real / file).exists() or (real / f"{file}.gz").exists() for file in data.files
        ):
            return False
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.symlink_to(real)
        return True

    def _generate(self, data: GeneratedData) -> None:
        target = self.data / data.folder
        if target.is_dir():
            return
        staging = target.with_name(f".{target.name}")
        shutil.rmtree(staging, ignore_errors=True)
        staging.parent.mkdir(parents=True, exist_ok=True)
        data.write(staging)
        staging.rename(target)


def _data_of(specs: Iterable[RunSpec]) -> Iterator[GeneratedData]:
    for name in dict.fromkeys(spec.experiment for spec in specs):
        rehearsal = registry.get(name).rehearsal
        yield from rehearsal.data if rehearsal else ()


def _models_of(specs: Iterable[RunSpec]) -> Iterator[str]:
    for spec in specs:
        yield spec.backbone
        if encoder := getattr(spec.settings, "encoder", None):
            yield encoder
