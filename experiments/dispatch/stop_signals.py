"""Signals that end the work: they set a flag, and the run stops at its next step boundary."""

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from experiments.harness.folder import RunFolder
from experiments.io.output import say

AT_A_TERMINAL = (signal.SIGINT, signal.SIGTERM)
# A worker's: USR2 comes before a time limit or a preemption, after which it may be started again.
OF_A_WORKER = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR2)


class StopSignals:
    """The signals that arrive while runs go on, within `handled`.

    The first asks the run to stop at its next step boundary, where it saves a checkpoint. The
    second stops it at once (KeyboardInterrupt), and what came after the last checkpoint is lost;
    but in a `patient` process nothing is ever raised in the middle of a step, since schedulers send
    some signals twice.
    """

    def __init__(
        self, signals: tuple[signal.Signals, ...] = AT_A_TERMINAL, *, patient: bool = False
    ) -> None:
        self.received = 0
        self.reason = ""  # why the work is to end; empty while it is to go on
        self._signals = signals
        self._patient = patient
        self._folder: RunFolder | None = None

    def __call__(self, number: int, frame: FrameType | None) -> None:
        """Handle one signal."""
        if self.received and not self._patient:
            raise KeyboardInterrupt
        # After SIGTERM nothing is to be started again, whatever came before it or comes after it.
        if self.received != signal.SIGTERM:
            self.received = number
            self.ask(signal.Signals(number).name)
            hint = "" if self._patient else "; a second one stops at once"
            say(f"{self.reason}: stopping after this step{hint}")

    def ask(self, reason: str) -> None:
        """Have the work end at the next step boundary, as a signal does."""
        self.reason = reason
        if self._folder is not None:
            self._folder.request_stop(reason)

    @contextmanager
    def passed_to(self, folder: RunFolder) -> Iterator[None]:
        """Within the block the run in `folder` is the one to stop."""
        self._folder = folder
        if self.reason:  # it arrived between two runs
            folder.request_stop(self.reason)
        try:
            yield
        finally:
            self._folder = None

    @contextmanager
    def handled(self) -> Iterator[None]:
        """Take the signals for the time of the block."""
        before = {number: signal.signal(number, self) for number in self._signals}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)
