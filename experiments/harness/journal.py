"""Metrics, timing and checkpoints of a run, consistent with each other.

A checkpoint records the size and hash of the logs when it was taken. A run that continues from it
truncates the logs accordingly, so they become exactly those of an uninterrupted run.
"""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, TypedDict

from experiments.harness.ownership import Ownership
from experiments.harness.stored import CHECKPOINT, METRICS, TIMING, checkpoints
from experiments.io.files import AppendLog, write_errors
from zia_core.errors import ZiaError
from zia_core.validation import conform

if TYPE_CHECKING:  # importing torch is slow
    from torch import Tensor

LOGS = (METRICS, TIMING)


class CheckpointHeader(TypedDict):
    """The metadata of a checkpoint."""

    run: str
    step: int
    log_bytes: dict[str, int]
    engine: dict[str, Any]


CHECKPOINTS_KEPT = 2


class RunJournal:
    """The logs and checkpoints of an owned run folder."""

    def __init__(self, ownership: Ownership, identity: str) -> None:
        self._ownership = ownership
        self._identity = identity
        self._checkpoints = ownership.folder / CHECKPOINT
        self._logs: dict[str, AppendLog] = {}

    def append(self, name: str, record: dict[str, Any]) -> None:
        """Append a record with an integer "step" to the log `name`."""
        if not isinstance(record.get("step"), int):
            raise ValueError(f"a record of {name} needs an integer 'step': {record}")
        with self._ownership.guarding():
            self._opened_logs()[name].append(record)

    def checkpoints(self) -> list[Path]:
        """All checkpoint files, oldest first."""
        return list(checkpoints(self._ownership.folder).values())

    def save(self, step: int, tensors: "Mapping[str, Tensor]", state: Mapping[str, Any]) -> None:
        """Save the checkpoint of `step`; the two newest are kept."""
        from zia_core.checkpoint import write_checkpoint

        path = self._checkpoints / f"step-{step:08d}.safetensors"
        with self._ownership.guarding():
            logs = self._opened_logs()
            self.sync()
            place: dict[str, Any] = {
                "run": self._identity,
                "step": step,
                "log_bytes": {name: log.size for name, log in logs.items()},
                "log_sha256": {name: log.sha256 for name, log in logs.items()},
                "engine": dict(state),
            }
            with write_errors(path):
                path.parent.mkdir(exist_ok=True)
            write_checkpoint(path, tensors, place, staging=self._ownership.staging)
            # Those of later steps are damaged, or the run would have started there.
            kept = [other for other in self.checkpoints() if other <= path][-CHECKPOINTS_KEPT:]
            for other in self.checkpoints():
                if other not in kept:
                    other.unlink(missing_ok=True)

    def load(self) -> "tuple[int, dict[str, Tensor], dict[str, Any]] | None":
        """Return step, tensors and state of the newest undamaged checkpoint; truncate the logs.

        Returns None, and empties the logs, without a checkpoint. Raises ZiaError if all are damaged
        (a run never silently starts over), or if checkpoint or logs are not this run's.
        """
        from zia_core.checkpoint import read_checkpoint

        damage: ZiaError | None = None
        for path in reversed(self.checkpoints()):
            try:
                tensors, place = read_checkpoint(path)
                conform(CheckpointHeader, place, str(path))
            except ZiaError as error:
                damage = damage or error
                continue
            if place.get("run") != self._identity:
                raise ZiaError(f"{path} is not a checkpoint of this run: delete it")
            self._start_logs(place["log_bytes"], place.get("log_sha256", {}))
            return place["step"], tensors, place["engine"]
        if damage:
            raise ZiaError(
                f"no checkpoint in {self._checkpoints} can be read ({damage}); delete that folder "
                "to start over from step 0"
            )
        self._start_logs({})
        return None

    def sync(self) -> None:
        """Flush the logs to disk."""
        for log in self._opened_logs().values():
            log.sync()

    def close(self) -> None:
        """Close the logs."""
        for log in self._logs.values():
            log.close()
        self._logs = {}

    def _opened_logs(self) -> dict[str, AppendLog]:
        if not self._logs:  # without `load`, a run starts from the beginning
            self._start_logs({})
        return self._logs

    def _start_logs(
        self, sizes: Mapping[str, int], digests: Mapping[str, str] = MappingProxyType({})
    ) -> None:
        """Truncate the logs to `sizes`; older checkpoints have no `digests` of the rest."""
        self.close()
        parts: dict[Path, bytes] = {}
        for name in LOGS:
            path, size = self._ownership.folder / name, sizes.get(name, 0)
            kept = path.read_bytes()[:size] if path.exists() else b""
            whole = len(kept) == size and (not kept or kept.endswith(b"\n"))
            if not whole or digests.get(name) not in (None, sha256(kept).hexdigest()):
                raise ZiaError(
                    f"{path} is not as it was at the newest checkpoint: restore it, or delete "
                    "the run's folder to start over"
                )
            parts[path] = kept
        for path, kept in parts.items():  # only once all are known to be intact
            with self._ownership.guarding():
                self._logs[path.name] = AppendLog(path, kept, staging=self._ownership.staging)
