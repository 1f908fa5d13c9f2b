"""Stop a run at its next step boundary on SIGINT, SIGTERM or SIGUSR2."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from experiments.harness.folder import RunFolder
from experiments.io.output import say

TERMINAL_SIGNALS = (signal.SIGINT, signal.SIGTERM)
# Slurm sends USR2 before a time limit or a preemption, after which a worker may be restarted.
WORKER_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class StopSignals:
    """Handles signals while runs are done, within `handled`.

    The first signal asks the run to stop at its next step boundary and save a checkpoint. The
    second stops it at once (KeyboardInterrupt) and loses the steps since the last checkpoint. A
    `patient` process ignores it, as schedulers send some signals twice.
    """

    def __init__(
        self, signals: tuple[signal.Signals, ...] = TERMINAL_SIGNALS, *, patient: bool = False
    ) -> None:
        self.received = 0
        self.reason = ""  # why to stop; empty while work continues
        self._signals = signals
        self._patient = patient
        self._folder: RunFolder | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle one signal."""
        if self.received and not self._patient:
            raise KeyboardInterrupt
        # SIGTERM takes precedence over all others: nothing is restarted after it.
        if self.received != signal.SIGTERM:
            self.received = number
            self.ask(signal.Signals(number).name)
            hint = "" if self._patient else "; a second one stops at once"
            say(f"{self.reason}: stopping after this step{hint}")

    def ask(self, reason: str) -> None:
        """Stop at the next step boundary, as after a signal."""
        self.reason = reason
        if self._folder is not None:
            self._folder.request_stop(reason)

    @contextmanager
    def passed_to(self, folder: RunFolder) -> Iterator[None]:
        """Within the block, the run in `folder` is the one to stop."""
        self._folder = folder
        if self.reason:  # the signal arrived between two runs
            folder.request_stop(self.reason)
        try:
            yield
        finally:
            self._folder = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Handle the signals within the block."""
        before = {number: signal.signal(number, self) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
