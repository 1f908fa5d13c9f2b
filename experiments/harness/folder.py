"""Write a run folder.

Only the owner of a run writes: a process that lost the run to another one gets LostOwnershipError.
Whole files are prepared in the owner's own folder and renamed into place; metrics and timing are
appended, and truncated to the checkpoint when a run continues.
"""

import os
import shutil
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from gzip import GzipFile
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

from experiments.harness import seal, stored
from experiments.harness.journal import RunJournal
from experiments.harness.ownership import Ownership, Watch
from experiments.harness.spec import NAME, RunSpec
from experiments.io.files import (
    canonical_json,
    read_json,
    sha256_file,
    write_errors,
    write_json_atomic,
)
from zia_core.errors import ZiaError

if TYPE_CHECKING:
    from torch import Tensor

STATUS_EVERY_S = 2.0
# Keys of environment.json that must not change between attempts.
FINGERPRINTS = ("data", "weights")


def discard_checkpoints(run: Path) -> None:
    """Remove the checkpoints of a run that is done.

    Killed while they were removed, which takes a while if they are large, it still has some.
    """
    shutil.rmtree(run / stored.CHECKPOINT, ignore_errors=True)


class RunFolder:
    """Write access to a run; also the engine's Journal.

    Created by `claim`. As a context manager it releases the run on exit.
    """

    def __init__(
        self, ownership: Ownership, spec: RunSpec, result_fields: Mapping[str, Any]
    ) -> None:
        self.path = ownership.folder
        self.spec = spec
        self.on_progress: Callable[[dict[str, Any]], None] | None = None
        self._ownership = ownership
        self._journal = RunJournal(ownership, spec.identity)
        self._result_fields = result_fields
        self._status = stored.read_status(self.path)
        self._status_written = 0.0
        self._environment: dict[str, Any] = {}
        self._stop_reason: str | None = None

    @classmethod
    def claim(
        cls,
        runs: Path,
        spec: RunSpec,
        result_fields: Mapping[str, Any],
        *,
        stale_after_s: float = 60.0,
        wait: bool = False,
        watch: Watch | None = None,
    ) -> Self | None:
        """Open or create `<runs>/<experiment>/<folder_name>/` and begin an attempt at the run.

        Returns None if the run is done, or if another process works on it (see Ownership.claim for
        `wait` and `watch`). `result_fields` are the required keys of result.json and their types.

        Raises:
            ZiaError: the folder's config.json describes another run, or a file is corrupt.
        """
        path = runs / spec.experiment / spec.folder_name
        config = path / stored.CONFIG
        if config.exists():
            _refuse_other_run(config, spec)
        ownership = Ownership.claim(path, stale_after_s=stale_after_s, wait=wait, watch=watch)
        if ownership is None:
            return None
        try:
            # Checked only now, as the previous owner may have just finished.
            if stored.is_done(path, result_fields):
                discard_checkpoints(path)
                ownership.release()
                return None
            run = cls(ownership, spec, result_fields)
            if not config.exists():
                ownership.write_json(stored.CONFIG, spec.to_json())
            run._begin_attempt()
        except BaseException:
            ownership.release()
            raise
        return run

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._journal.close()
        self._ownership.release()

    # The engine's Journal

    def metrics(self, record: dict[str, Any]) -> None:
        """Append {"step": ..., ...} to metrics.jsonl; nothing in it depends on the clock."""
        self._journal.append(stored.METRICS, record)

    def timing(self, record: dict[str, Any]) -> None:
        """Append {"step": ..., "seconds": ..., ...} to timing.jsonl."""
        self._journal.append(stored.TIMING, record)

    def save_checkpoint(
        self, step: int, tensors: "Mapping[str, Tensor]", state: Mapping[str, Any]
    ) -> None:
        """Save the checkpoint of `step`; `state` is JSON. The two newest are kept."""
        self._journal.save(step, tensors, state)

    def load_checkpoint(self) -> "tuple[int, dict[str, Tensor], dict[str, Any]] | None":
        """Return step, tensors and state of the newest undamaged checkpoint; None if there is none.

        Truncates metrics and timing to that step. Raises ZiaError if all checkpoints are damaged.
        """
        return self._journal.load()

    def stop_requested(self) -> str | None:
        """Why the run should stop at the next step boundary; None to continue."""
        return self._stop_reason

    def request_stop(self, reason: str) -> None:
        """Ask the run to save and stop at the next step boundary; safe in signal handlers."""
        self._stop_reason = reason

    def progress(self, **fields: Any) -> None:
        """Report step, total, loss, ...; status.json is updated every 2 seconds."""
        self._status["progress"] = fields
        if self.on_progress:
            self.on_progress(fields)
        if time.monotonic() - self._status_written >= STATUS_EVERY_S:
            self._write_status()

    # The other files

    def result_of(self, spec: RunSpec, result_fields: Mapping[str, Any]) -> dict[str, Any] | None:
        """Return the result of another run, in the same folder of runs, that this run requires.

        None if that run diverged and so has no result. Raises ZiaError if it is not done or not as
        sealed, or if this run has recorded other data or weights (call `write_environment` first).
        """
        path = self.path.parents[1] / spec.experiment / spec.folder_name
        if stored.has_diverged(path):
            return None
        if not stored.is_done(path, result_fields):
            raise ZiaError(f"the run {path}, whose result is needed, is not done: do it first")
        run = stored.load_sealed(path)
        for key in FINGERPRINTS:
            # This run may have further data, if the other was on another task.
            if key in self._environment and not _within(
                run.environment.get(key), self._environment[key]
            ):
                raise ZiaError(
                    f"the run {path}, whose result is needed, was made with other {key}: "
                    "restore those, or delete its folder and do it again"
                )
        return run.result

    @contextmanager
    def writing(self, name: str) -> Iterator[Path]:
        """Yield a temporary path, which becomes the file `name` if the block succeeds."""
        if not NAME.fullmatch(name):
            raise ValueError(f"{name!r} is not a file name")
        with self._ownership.writing(name) as temporary:
            yield temporary

    def write_predictions(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Write predictions.jsonl.gz, ids and outputs only; equal records give equal bytes."""
        with (
            self.writing(stored.PREDICTIONS) as temporary,
            write_errors(self.path / stored.PREDICTIONS),
            temporary.open("wb") as file,
            GzipFile(filename="", mode="wb", fileobj=file, mtime=0) as packed,
        ):
            for record in records:
                packed.write(canonical_json(record).encode() + b"\n")

    def write_result(self, result: Mapping[str, Any]) -> None:
        """Write result.json; ZiaError if a required field is missing, mistyped or NaN."""
        stored.check_result(result, self._result_fields, self.path / stored.RESULT)
        self._ownership.write_json(stored.RESULT, dict(result))

    def write_environment(self, fields: Mapping[str, Any]) -> None:
        """Add `fields` to the environment of this attempt and write environment.json.

        "data" and "weights" are fingerprints: a run with a checkpoint refuses to continue with
        others.
        """
        path = self.path / stored.ENVIRONMENT
        before = read_json(path) if path.exists() and self._journal.checkpoints() else {}
        began_with = {key: before[key] for key in FINGERPRINTS if key in before}
        for key, value in began_with.items():
            if key in fields and fields[key] != value:
                raise ZiaError(
                    f"{key} changed since the run in {self.path} began, from "
                    f"{canonical_json(value)} to {canonical_json(fields[key])}: restore it, or "
                    "delete the run's folder to start over"
                )
        self._environment |= fields
        # If this attempt is killed before it reads its data, the first fingerprints stay.
        self._ownership.write_json(stored.ENVIRONMENT, self._environment | began_with)
        if "git" in fields:
            self._status["attempts"][-1]["git_sha"] = (fields["git"] or {}).get("sha")
            self._write_status()

    def set_status(self, state: str, reason: str | None = None) -> None:
        """Set the state and its reason; any state but "running" ends the attempt.

        "done" requires a valid result.json, seals the folder and removes the checkpoints.
        """
        if state not in stored.STATES:
            raise ValueError(f"{state!r} is not one of {stored.STATES}")
        if state == "done":
            result = self.path / stored.RESULT
            stored.check_result(read_json(result), self._result_fields, result)
        self._status |= {"state": state, "reason": reason, "sealed": state == "done"}
        if state != "running":
            self._status["attempts"][-1] |= {"ended": _now(), "end": state}
        if state == "done":
            self._finish()
            discard_checkpoints(self.path)
        else:
            self._write_status()

    def _finish(self) -> None:
        """Write the seal of all files, then the final status."""
        self._journal.sync()
        with self._ownership.writing(stored.STATUS) as status:
            write_json_atomic(status, self._status)
            hashes = seal.digests(self.path) | {stored.STATUS: sha256_file(status)}
            self._ownership.write_json(seal.SEAL, hashes)

    def _begin_attempt(self) -> None:
        for attempt in self._status["attempts"]:
            # It was killed or lost the run, at an unknown time.
            attempt["end"] = attempt["end"] or "lost"
        self._status["attempts"].append(
            {
                "owner": self._ownership.number,
                "started": _now(),
                "host": os.environ.get("SLURMD_NODENAME") or socket.gethostname(),
                "pid": os.getpid(),
                "git_sha": None,
                "ended": None,
                "end": None,
            }
        )
        self.set_status("running")

    def _write_status(self) -> None:
        self._ownership.write_json(stored.STATUS, self._status)
        self._status_written = time.monotonic()


def _refuse_other_run(config: Path, spec: RunSpec) -> None:
    try:
        identity = RunSpec.from_json(read_json(config), type(spec.settings)).identity
    except ZiaError as error:
        raise ZiaError(f"{config} is not the config of this run: {error}") from error
    if identity != spec.identity:
        raise ZiaError(
            f"{config} was edited: it describes the run {identity}, its folder is named "
            f"{spec.identity}; restore it or delete the folder"
        )


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


def _within(theirs: Mapping[str, str] | None, ours: Mapping[str, str]) -> bool:
    """Whether these fingerprints, at least one, are all among ours."""
    return bool(theirs) and dict(theirs or {}).items() <= ours.items()
