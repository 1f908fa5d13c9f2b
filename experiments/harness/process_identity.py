"""Whether a process that once wrote down who it was has ended: knowable on its own machine only."""

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
    """What tells one process from every other, also after a reboot or in another container."""

    pid: int
    boot_id: str | None
    pid_namespace: int | None
    start_time: int | None  # clock ticks since boot
    slurm_job: str | None = None  # the job that it is part of
    restarts: int = 0  # how often that job had been requeued

    @classmethod
    def current(cls) -> Self:
        """This process; what the system does not tell (no /proc) is None."""
        return cls.of(os.getpid())

    @classmethod
    def of(cls, pid: int) -> Self:
        """A process that this one started and has not waited for yet, or this one."""
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
        """The process that was written down so; a ZiaError begins with `where`."""
        kinds = get_type_hints(cls)
        later = {"slurm_job", "restarts"}  # which older records do not have
        given = {name: kind for name, kind in kinds.items() if name in record or name not in later}
        process = cls(**conform_fields(given, record, where))
        if not 0 < process.pid <= LARGEST_PID:  # 0 and less are whole groups of processes
            raise ZiaError(f"{where}: pid {process.pid} is no process")
        return process

    def is_gone(self) -> bool:
        """Whether this process provably ended; False whenever that cannot be known from here.

        A process of a Slurm job counts as ended for the same job once it was requeued: Slurm starts
        a job again when it holds the node of the first start for dead, and where it errs, the one
        that it forgot has to stop.
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
        # Z, X: dead, only not yet collected by its parent. Another start time: the pid was reused.
        return state in ("Z", "X") or start_time not in (None, self.start_time)


def lives_here(process: Process) -> bool:
    """Whether that process runs on this machine, so that a signal can be sent to it."""
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
