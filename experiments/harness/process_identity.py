"""Identify processes, to tell whether one has ended. That is known on its own machine only."""

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self, get_type_hints

from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

LARGEST_PID = 2**31 - 1


@dataclass(frozen=True)
class Process:
    """Identifies a process, also across reboots and containers."""

    pid: int
    boot_id: str | None
    pid_namespace: int | None
    start_time: int | None  # clock ticks since boot
    slurm_job: str | None = None  # its Slurm job
    restarts: int = 0  # of that job, so far

    @classmethod
    def current(cls) -> Self:
        """This process; what is unknown, without /proc, is None."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """This process, or a child that has not been waited for."""
        job = os.environ.get("SLURM_JOB_ID")
        restarts = int(os.environ.get("SLURM_RESTART_COUNT") or 0)
        try:
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
            namespace = Path("/proc/self/ns/pid").stat().st_ino
        except OSError:
            return cls(pid, None, None, None, job, restarts)
        _, start_time = _state_and_start(pid)
        return cls(pid, boot_id, namespace, start_time, job, restarts)

    @classmethod
    def from_json(cls, record: Mapping[str, Any], where: str) -> Self:
        """Read a recorded process; a ZiaError begins with `where`."""
        kinds = get_type_hints(cls)
        later = {"slurm_job", "restarts"}  # missing in older records
        given = {name: kind for name, kind in kinds.items() if name in record or name not in later}
        process = cls(**conform_fields(given, record, where))
        if not 0 < process.pid <= LARGEST_PID:  # 0 and less are process groups
            raise ZiaError(f"{where}: pid {process.pid} is not a process")
        return process

    def is_gone(self) -> bool:
        """Whether this process has provably ended; False if that cannot be known here.

        To a requeued Slurm job, processes of its earlier starts count as ended: Slurm restarts a
        job when it takes a node for dead, and if it errs, the forgotten process has to stop.
        """
        here = Process.current()
        same_job = self.slurm_job is not None and self.slurm_job == here.slurm_job
        if same_job and self.restarts < here.restarts:
            return True
        if None in (self.boot_id, self.pid_namespace, self.start_time):
            return False
        if (self.boot_id, self.pid_namespace) != (here.boot_id, here.pid_namespace):
            return False
        try:
            os.kill(self.pid, 0)
        except ProcessLookupError:
            return True
        except PermissionError:  # somebody else's process, and alive
            pass
        state, start_time = _state_and_start(self.pid)
        # Z, X: dead but not yet reaped. Another start time: the pid was reused.
        return state in ("Z", "X") or start_time not in (None, self.start_time)


def lives_here(process: Process) -> bool:
    """Whether the process runs on this machine, so that it can be signalled."""
    here = Process.current()
    same = (process.boot_id, process.pid_namespace) == (here.boot_id, here.pid_namespace)
    return same and process.start_time is not None and not process.is_gone()


def _state_and_start(pid: int) -> tuple[str | None, int | None]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return None, None
    after_name = stat.rpartition(")")[2].split()  # the name may contain spaces and brackets
    return after_name[0], int(after_name[19])
