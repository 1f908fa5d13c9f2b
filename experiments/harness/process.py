"""Whether a process that once wrote down who it was has ended: knowable on its own machine only."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Self


@dataclass(frozen=True)
class Process:
    """What tells one process from every other, also after a reboot or in another container."""

    pid: int
    boot_id: str | None
    pid_namespace: int | None
    start_time: int | None  # clock ticks since boot

    @classmethod
    def current(cls) -> Self:
        """This process; what the system does not tell (no /proc) is None."""
        try:
            boot_id = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            namespace = Path("/proc/self/ns/pid").stat().st_ino
        except OSError:
            return cls(os.getpid(), None, None, None)
        _, start_time = _state_and_start(os.getpid())
        return cls(os.getpid(), boot_id, namespace, start_time)

    def is_gone(self) -> bool:
        """Whether this process provably ended; False whenever that cannot be known from here."""
        here = Process.current()
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


def _state_and_start(pid: int) -> tuple[str | None, int | None]:
    try:
        stat = Path(f"/proc/{pid}/stat").read_text()
    except OSError:
        return None, None
    after_name = stat.rpartition(")")[2].split()  # the name may contain spaces and brackets
    return after_name[0], int(after_name[19])
