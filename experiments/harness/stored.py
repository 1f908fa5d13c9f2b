"""Read stored runs: what is there, in which state, and whether it is done.

A run is a folder, or part of an archive (`harness.archive`). Readers never write and need no
ownership; a run that is being worked on is read as it stands. Read finished runs whose numbers are
used with `load_sealed`.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.harness import run_paths, schema, seal
from experiments.harness.archive import ArchivedRun, FilePath, RunPath
from experiments.harness.ownership import is_held
from experiments.io.files import (
    read_json,
    read_line,
    read_lines,
    sha256_file,
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
        return run_paths.run_name(self.path)

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


def states(runs: Path) -> Iterator[StoredRun]:
    """Read every run folder under `runs`, sorted by name."""
    return map(load, run_paths.folders(runs))


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
