"""Reading run folders: what is there, in which state, and whether it is done.

A reader never writes and needs no ownership; a run that is being worked on is read as it stands.
Whoever takes numbers from finished runs reads them with `load_sealed`.
"""

import gzip
import re
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

from experiments.harness import schema, seal
from experiments.harness.ownership import is_held
from experiments.io.files import read_json, read_line, read_lines, sha256_file
from zia_core.errors import ZiaError
from zia_core.validation import Record, conform, conform_fields, records

STATES = schema.STATES
DIVERGED = "diverged: "  # how the reason of a run begins whose loss was not finite
CONFIG, ENVIRONMENT, STATUS, RESULT = (
    "config.json",
    "environment.json",
    "status.json",
    "result.json",
)
METRICS, TIMING, PREDICTIONS = "metrics.jsonl", "timing.jsonl", "predictions.jsonl.gz"
ADAPTER, CHECKPOINT = "adapter.safetensors", "checkpoint"
STEP = re.compile(r"step-([0-9]{8,18})\.safetensors")
PROMPT_SHARE = "prompt_share.json"  # see experiments.training.prompt_share
CARD = "card.json"  # of weights that a run has trained
ANSWERS = "answers.jsonl"  # to questions of a benchmark that a judge reads
# Files that not every run has; where a run has none, nobody else's may stand in for it.
PARTS = (ENVIRONMENT, METRICS, TIMING, PREDICTIONS, PROMPT_SHARE, CARD, ANSWERS)


@dataclass(frozen=True)
class StoredRun:
    """One run folder as its files describe it; files that are not there yet are empty."""

    path: Path
    config: Record
    status: Record
    environment: Record
    result: Record

    @property
    def state(self) -> str:
        """One of STATES."""
        return str(self.status["state"])

    @property
    def is_sealed(self) -> bool:
        """Whether its files can be compared with what they were when it was done."""
        return (self.path / seal.SEAL).exists()

    def metrics(self) -> list[Record]:
        """The records of metrics.jsonl, in order."""
        return metrics(self.path)

    def timing(self) -> list[Record]:
        """The records of timing.jsonl, in order."""
        return timing(self.path)

    def predictions(self, kinds: Mapping[str, Any] = MappingProxyType({})) -> list[Record]:
        """The records of predictions.jsonl.gz, in order, with fields of these types.

        ZiaError if the file is damaged, or names the line that is of another form.
        """
        path = self.path / PREDICTIONS
        try:
            with gzip.open(path) as file:
                lines = file.read().removesuffix(b"\n").split(b"\n")
        except (OSError, EOFError, zlib.error) as error:
            raise ZiaError(f"{path} is missing or damaged ({error})") from error
        written = enumerate(lines if lines != [b""] else [], start=1)
        parsed = (read_line(line, path, number) for number, line in written)
        return records(parsed, kinds, path)


def load(path: Path) -> StoredRun:
    """Read one run folder; ZiaError names the file that is missing, corrupt or inconsistent."""

    def optional(name: str) -> Record:
        return Record(read_json(path / name) if (path / name).exists() else {}, path / name)

    config = Record(read_json(path / CONFIG), path / CONFIG)
    conform_fields(schema.CONFIG, config, str(path / CONFIG))
    environment = optional(ENVIRONMENT)
    conform(schema.Environment, environment, str(path / ENVIRONMENT))
    return StoredRun(path, config, read_status(path), environment, optional(RESULT))


def metrics(path: Path) -> list[Record]:
    """The records of metrics.jsonl in the run folder `path`, in order."""
    return _steps(path / METRICS, schema.METRICS)


def timing(path: Path) -> list[Record]:
    """The records of timing.jsonl in the run folder `path`, in order."""
    return _steps(path / TIMING, schema.TIMING)


def _steps(path: Path, kinds: Mapping[str, Any]) -> list[Record]:
    found = records(read_lines(path), kinds, path)
    for record in found:
        _ = record["step"]
    return found


def load_sealed(path: Path, *, tensors: bool = False) -> StoredRun:
    """Read one run folder; if it is done, ZiaError for the first file that is not as it was then.

    `tensors`: also for adapters and weights, which may be large. Runs that were done before there
    were seals are read as they are, and `is_sealed` says so.
    """
    run = load(path)
    if run.state == "done":
        sealed = seal.read(path)
        if sealed is not None:
            seal.check(path, sealed, tensors=tensors)
            for name in PARTS:
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
    # Whoever has the adapter of a published run may put it there.
    known = {run.result.get("adapter_sha256"), (seal.read(path) or {}).get(ADAPTER)} - {None}
    if (run.is_sealed or known) and {sha256_file(path / ADAPTER)} != known:
        raise ZiaError(
            f"{path / ADAPTER} is not the adapter that {RESULT} describes: restore it, or delete "
            "the run's folder and do it again"
        )
    return run


def folders(runs: Path) -> list[Path]:
    """Every run folder `<runs>/<experiment>/<run>/` that has begun (has a config), sorted.

    A hidden folder (of a bin, of a copy that is being made) holds none.
    """
    found = (config.parent for config in runs.glob(f"*/*/{CONFIG}"))
    return sorted(path for path in found if not is_hidden(path))


def is_hidden(path: Path) -> bool:
    """Whether a folder is in a bin, or a copy that is being made: then it is no run's."""
    return path.name.startswith(".") or path.parent.name.startswith(".")


def states(runs: Path) -> Iterator[StoredRun]:
    """Read every run folder under `runs`, in the order of their names."""
    return map(load, folders(runs))


def read_status(path: Path) -> Record:
    """The status of the run folder `path`: state, reason, attempts, progress."""
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


def current_state(path: Path) -> str:
    """The state in status.json, or "interrupted" where it says running but nobody works on it."""
    state = str(read_status(path)["state"])
    return "interrupted" if state == "running" and not is_held(path) else state


def check_result(result: Mapping[str, Any], required: Mapping[str, Any], where: Path) -> None:
    """Raise ZiaError unless every required field is there and of its type (`float | None`, ...)."""
    conform_fields(required, result, str(where))


def is_done(path: Path, required: Mapping[str, Any]) -> bool:
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
