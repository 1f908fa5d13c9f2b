"""Read stored runs: what is there, in which state, and whether it is done.

A run is a folder, or part of an archive (`harness.archive`). Readers never write and need no
ownership; a run that is being worked on is read as it stands. Read finished runs whose numbers are
used with `load_sealed`.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from types import MappingProxyType
from typing import Any

from experiments.harness import schema, seal
from experiments.harness.archive import SUFFIX, Archive, ArchivedRun, FilePath, RunPath, archives
from experiments.harness.ownership import is_held
from experiments.io.files import (
    read_json,
    read_line,
    read_lines,
    sha256_file,
    write_errors,
)
from zia_core.errors import ZiaError
from zia_core.validation import Record, conform, conform_fields, records

STATES = schema.STATES
DIVERGED = "diverged: "  # begins the reason of a run whose loss was not finite
CONFIG, ENVIRONMENT, STATUS, RESULT = (
    "config.json",
    "environment.json",
    "status.json",
    "result.json",
)
METRICS, TIMING, PREDICTIONS = "metrics.jsonl", "timing.jsonl", "predictions.jsonl.gz"
ARCHIVED_PREDICTIONS = "predictions.jsonl"  # uncompressed: the archive compresses
ADAPTER, CHECKPOINT = "adapter.safetensors", "checkpoint"
STEP = re.compile(r"step-([0-9]{8,18})\.safetensors")
PROMPT_SHARE = "prompt_share.json"  # see experiments.training.prompt_share
CARD = "card.json"  # of weights that a run has trained
ANSWERS = "answers.jsonl"  # to the questions of a benchmark that a judge reads
# Files that not every run has; they count only where the run's seal lists them.
OPTIONAL = (
    *(ENVIRONMENT, METRICS, TIMING, PREDICTIONS, ARCHIVED_PREDICTIONS),
    *(PROMPT_SHARE, CARD, ANSWERS),
)


@dataclass(frozen=True)
class StoredRun:
    """One stored run as its files describe it; files that are not there yet are empty."""

    path: RunPath
    config: Record
    status: Record
    environment: Record
    result: Record

    @property
    def name(self) -> str:
        """`<experiment>/<run>`."""
        return run_name(self.path)

    @property
    def experiment(self) -> str:
        """The experiment in whose folder or archive it is."""
        return self.name.split("/")[0]

    @property
    def folder(self) -> Path:
        """Its folder; ZiaError if it is in an archive."""
        if not isinstance(self.path, Path):
            raise ZiaError(f"{self.path} is in an archive; this needs a run folder")
        return self.path

    @property
    def state(self) -> str:
        """One of STATES."""
        return str(self.status["state"])

    @property
    def is_sealed(self) -> bool:
        """Whether its files can be compared with those of the finished run."""
        return (self.path / seal.SEAL).exists()

    @property
    def has_predictions(self) -> bool:
        """Whether it wrote predictions."""
        return predictions_path(self.path).exists()

    def metrics(self) -> list[Record]:
        """The records of metrics.jsonl, in order."""
        return metrics(self.path)

    def timing(self) -> list[Record]:
        """The records of timing.jsonl, in order; archived runs have none."""
        return timing(self.path)

    def predictions(self, kinds: Mapping[str, Any] = MappingProxyType({})) -> list[Record]:
        """The predictions in order, with fields of the types in `kinds`.

        ZiaError if the file is damaged, or names the line that has another form.
        """
        path = predictions_path(self.path)
        try:
            content = path.read_bytes()
            text = gzip.decompress(content) if path.name == PREDICTIONS else content
        except (OSError, EOFError, zlib.error) as error:
            raise ZiaError(f"{path} is missing or damaged ({error})") from error
        lines = text.removesuffix(b"\n").split(b"\n")
        written = enumerate(lines if lines != [b""] else [], start=1)
        parsed = (read_line(line, path, number) for number, line in written)
        return records(parsed, kinds, path)


def run_name(path: RunPath) -> str:
    """`<experiment>/<run>`."""
    experiment = path.archive.experiment if isinstance(path, ArchivedRun) else path.parent.name
    return f"{experiment}/{path.name}"


def predictions_path(path: RunPath) -> FilePath:
    """Where the run in `path` has its predictions."""
    return path / (ARCHIVED_PREDICTIONS if isinstance(path, ArchivedRun) else PREDICTIONS)


def load(path: RunPath) -> StoredRun:
    """Read one run; ZiaError names the file that is missing, corrupt or inconsistent."""

    def optional(name: str) -> Record:
        return Record(read_json(path / name) if (path / name).exists() else {}, path / name)

    config = Record(read_json(path / CONFIG), path / CONFIG)
    conform_fields(schema.CONFIG, config, str(path / CONFIG))
    environment = optional(ENVIRONMENT)
    conform(schema.Environment, environment, str(path / ENVIRONMENT))
    return StoredRun(path, config, read_status(path), environment, optional(RESULT))


def metrics(path: RunPath) -> list[Record]:
    """The records of metrics.jsonl of the run in `path`, in order."""
    return _steps(path / METRICS, schema.METRICS)


def timing(path: RunPath) -> list[Record]:
    """The records of timing.jsonl of the run in `path`, in order."""
    return _steps(path / TIMING, schema.TIMING)


def _steps(path: FilePath, kinds: Mapping[str, Any]) -> list[Record]:
    found = records(read_lines(path), kinds, path)
    for record in found:
        _ = record["step"]
    return found


def load_sealed(path: RunPath, *, tensors: bool = False) -> StoredRun:
    """Read one run; if it is done, ZiaError for the first file that has changed since then.

    `tensors`: also check adapters and weights, which may be large. Runs that are older than seals
    are read as they are; `is_sealed` tells them apart.
    """
    run = load(path)
    if run.state == "done":
        sealed = seal.read(path)
        if sealed is not None:
            seal.check(path, sealed, tensors=tensors)
            for name in OPTIONAL:
                if name not in sealed and (path / name).exists():
                    raise ZiaError(f"{path / name} is not listed in {seal.SEAL}: take it away")
        elif run.status.get("sealed"):
            raise ZiaError(
                f"{path / seal.SEAL}, the run's seal, is missing: restore it, or delete the run's "
                "folder and do it again"
            )
    return run


def with_adapter(path: Path) -> StoredRun:
    """Read a finished run that has its adapter, as it was trained; ZiaError says what is wrong."""
    run = load_sealed(path, tensors=True)
    if run.state != "done":
        raise ZiaError(f"the run {path} is {run.state}, not done: finish it first")
    if not (path / ADAPTER).exists():
        if run.result.get("tuned_parameters") == 0:
            raise ZiaError(f"the run {path} trained nothing: take one of another method")
        raise ZiaError(
            f"the run {path} has no {ADAPTER}, which published runs come without: do it again, "
            "into another folder"
        )
    # The adapter of a published run may have been added to its folder.
    known = {run.result.get("adapter_sha256"), (seal.read(path) or {}).get(ADAPTER)} - {None}
    if (run.is_sealed or known) and {sha256_file(path / ADAPTER)} != known:
        raise ZiaError(
            f"{path / ADAPTER} is not the adapter that {RESULT} describes: restore it, or delete "
            "the run's folder and do it again"
        )
    return run


def folders(runs: Path) -> list[Path]:
    """Every run folder `<runs>/<experiment>/<run>/` that has begun (has a config), sorted.

    Hidden folders (a bin, an unfinished copy) are left out.
    """
    found = (config.parent for config in runs.glob(f"*/*/{CONFIG}"))
    return sorted(path for path in found if not is_hidden(path))


def is_archive(runs: Path) -> bool:
    """Whether `runs` is an archive and not a folder."""
    return runs.suffix == SUFFIX and runs.is_file()


def archives_of(runs: Path) -> list[Path]:
    """The archives in the folder `runs`, sorted; `runs` may also be one archive."""
    return [runs] if is_archive(runs) else archives(runs)


def every_run(runs: Path) -> dict[str, RunPath]:
    """Every run under `runs`, in folders and in archives, by name; ZiaError for a damaged one."""
    return by_name([*folders(runs), *archived_runs(runs)])


def archived_runs(runs: Path) -> list[ArchivedRun]:
    """Every run in the archives of the folder `runs`; ZiaError for a damaged archive."""
    return [run for path in archives_of(runs) for run in Archive(path).runs]


def by_name(paths: Sequence[RunPath]) -> dict[str, RunPath]:
    """Runs by `<experiment>/<run>`, sorted; of several with one name, the first."""
    found = {run_name(path): path for path in reversed(paths)}
    return {name: found[name] for name in sorted(found)}


@contextmanager
def as_folder(run: RunPath) -> Iterator[Path]:
    """Give the folder of a run; an archived run is unpacked to one until the block ends."""
    if isinstance(run, Path):
        yield run
        return
    with TemporaryDirectory(prefix="zia-") as temporary:
        yield unpack(run, Path(temporary))


def unpack(run: ArchivedRun, runs: Path) -> Path:
    """Make the archived `run` a run folder under `runs` and return it, sealed anew.

    ZiaError if the run is not as it was sealed, or the folder cannot be written.
    """
    load_sealed(run)
    folder = runs / run_name(run)
    with write_errors(folder):
        folder.mkdir(parents=True)
        for name, content in run.contents().items():
            if name == ARCHIVED_PREDICTIONS:
                (folder / PREDICTIONS).write_bytes(gzip.compress(content, mtime=0))
            else:
                (folder / name).write_bytes(content)
    seal.write(folder)
    return folder


def is_hidden(path: Path) -> bool:
    """Whether a folder is in a bin, or an unfinished copy, and so not a run's."""
    return path.name.startswith(".") or path.parent.name.startswith(".")


def states(runs: Path) -> Iterator[StoredRun]:
    """Read every run folder under `runs`, sorted by name."""
    return map(load, folders(runs))


def read_status(path: RunPath) -> Record:
    """The status of the run in `path`: state, reason, attempts, progress."""
    file = path / STATUS
    if not file.exists():
        nothing: dict[str, Any] = {
            "state": "pending",
            "reason": None,
            "attempts": [],
            "progress": {},
        }
        return Record(nothing, file)
    status = read_json(file)
    try:
        conform(schema.Status, status, str(file))
        if status["progress"]:
            conform(schema.Progress, status["progress"], f"{file}: progress")
    except ZiaError as error:
        raise ZiaError(f"{error}, as the status of a run has it: restore or delete it") from error
    return Record(status | {"reason": status.get("reason")}, file)


def current_state(path: RunPath) -> str:
    """The state in status.json, or "interrupted" where it says running but nobody works on it."""
    state = str(read_status(path)["state"])
    held = isinstance(path, Path) and is_held(path)
    return "interrupted" if state == "running" and not held else state


def check_result(result: Mapping[str, Any], required: Mapping[str, Any], where: FilePath) -> None:
    """Raise ZiaError unless every required field is there and of its type (`float | None`, ...)."""
    conform_fields(required, result, str(where))


def is_done(path: RunPath, required: Mapping[str, Any]) -> bool:
    """Whether the run in `path` is finished: its status says so and its result is valid."""
    try:
        if read_status(path)["state"] != "done":
            return False
        check_result(read_json(path / RESULT), required, path / RESULT)
    except ZiaError:
        return False
    return True


def checkpoints(path: Path) -> dict[int, Path]:
    """The checkpoints of the run in `path` by step, oldest first; other files there are none."""
    files = {STEP.fullmatch(file.name): file for file in path.glob(f"{CHECKPOINT}/step-*")}
    return dict(sorted((int(name[1]), file) for name, file in files.items() if name))


def checkpoint_step(path: Path) -> int:
    """The step of the newest checkpoint of the run in `path`; -1 without one."""
    return max(checkpoints(path), default=-1)


def has_diverged(path: Path) -> bool:
    """Whether the run in `path` failed because its loss or gradient was not finite.

    Doing it again would end the same way.
    """
    status = read_status(path)
    return status["state"] == "failed" and str(status["reason"]).startswith(DIVERGED)
