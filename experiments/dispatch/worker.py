"""A worker takes missing runs, one after another, until none is left that it could do.

Any number of workers may look at the same plan, on any number of machines: a run belongs to who
claims it, and the others pass it over and look at it again later.
"""

import os
import socket
import time
from collections.abc import Callable, Collection, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from experiments.dispatch import in_process
from experiments.dispatch.code_snapshot import ChangedCodeError, Unchanged
from experiments.dispatch.stop_signals import StopSignals
from experiments.harness import plan, registry, stored
from experiments.harness.ownership import Watch, may_be_claimed
from experiments.harness.spec import RunSpec
from experiments.io import terminal
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

POLL_S = 1.0  # between two looks, while there is nothing to take
FAILURES_IN_A_ROW = 3  # then it may be the machine, and others shall have the rest
TIME_SPENT = "the worker's time is spent"
RUN_LINE = "run "  # how the line of a log begins behind which the run of that name follows


@dataclass
class Tally:
    """What became of the planned runs and of those they require, as one worker saw it last."""

    done: int = 0
    failed: int = 0
    left: int = 0
    own: int = 0  # of those done, by this worker
    stopped: str = field(default="", compare=False)  # why it left the rest to others
    in_a_row: list[str] = field(default_factory=list, compare=False)  # runs that failed, at last
    took_a_step: bool = field(default=False, compare=False)  # any run did
    is_spoilt: bool = field(default=False, compare=False)  # this process cannot do any more runs
    _run: Path | None = field(default=None, compare=False)  # the one that it has
    _from_step: int = field(default=-1, compare=False)  # of the checkpoint that it began with
    _advanced: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        counts = f"{self.done} done, {self.failed} failed, {self.left} left; {self.own} done here"
        return f"{counts}; {self.stopped}" if self.stopped else counts

    def begins(self, folder: Path) -> None:
        """The worker has claimed the run in `folder`."""
        self._advanced = self.has_advanced()
        self._run, self._from_step = folder, stored.checkpoint_step(folder)

    def ends(self) -> None:
        """That run is done, or has failed."""
        self._run, self._advanced = None, True

    def has_advanced(self) -> bool:
        """Whether another start would begin further on than this one did.

        A run has ended here, or has a checkpoint of a later step. Steps alone do not count: those
        behind the last checkpoint are made again.
        """
        under_way = self._run is not None and stored.checkpoint_step(self._run) > self._from_step
        return self._advanced or under_way


class Worker:
    """One process's way through a plan.

    It stops after a few failures in a row, which may be the fault of its machine; a loss that is
    not finite is the run's own and is none.

    It stops as well where the process's GPU is out of order after an error: only a new process can
    go on.

    `stop` has the signals. After `seconds` it stops at a step boundary. `idle_seconds` is how long
    it stays while others work on everything that is left; None: until that is finished, ready to
    take over from one that dies. `tally` is where others see how it gets on. `gets_going` is called
    when the first run has taken a step.
    """

    def __init__(
        self,
        runs_root: Path,
        stop: StopSignals,
        *,
        seconds: float | None = None,
        idle_seconds: float | None = None,
        tally: Tally | None = None,
        gets_going: Callable[[], None] = lambda: None,
    ) -> None:
        self.tally = tally or Tally()
        self._gets_going = gets_going
        self._runs_root, self._stop = runs_root, stop
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._idle_seconds = idle_seconds
        self._watch = Watch()
        self._open: dict[str, RunSpec] = {}
        self._needs: dict[str, list[str]] = {}
        self._usable: set[str] = set()  # finished runs, as far as others need them
        self._failed: dict[str, RunSpec] = {}
        self._in_vain: dict[str, RunSpec] = {}  # those that waited for one of them

    def work(self, specs: Sequence[RunSpec], mine: Collection[str] | None = None) -> Tally:
        """Do what can be done of `specs` and of what they require.

        `mine` are the names, `<experiment>/<folder>`, of those that this worker may do, having the
        GPUs and the memory; for the others it waits where one of its own requires them.

        ChangedCodeError where the code is edited meanwhile: no further run is begun.
        """
        for spec in plan.with_requirements(specs):
            required = registry.get(spec.experiment).requires(spec)
            self._open[spec.identity] = spec
            self._needs[spec.identity] = [needed.identity for needed in required]
        self._code = Unchanged()
        idle_since = time.monotonic()
        while not self._is_over() and (self._open or self._are_asked_for_again()):
            took_one = False
            for identity, spec in list(self._open.items()):
                if not self._is_over() and self._is_ready(identity, spec):
                    took_one |= self._take(identity, spec, mine is None or name_of(spec) in mine)
            now = time.monotonic()
            if took_one or self._are_waiting():
                idle_since = now
            if self._idle_seconds is not None and now - idle_since > self._idle_seconds:
                break
            if self._open and not took_one:
                time.sleep(POLL_S)
        self.tally.left += len(self._open)
        return self.tally

    def _are_asked_for_again(self) -> bool:
        """Whether failed runs have been made pending meanwhile: no other job will come for them."""
        asked = {}
        for identity, spec in self._failed.items():
            with suppress(ZiaError):
                if plan.inspect(spec, self._runs_root).state == "pending":
                    asked[identity] = spec
        if asked:
            self._open = asked | self._in_vain
            self.tally.failed -= len(asked)
            self.tally.left -= len(self._in_vain)
            self._usable -= asked.keys()
            self._in_vain = {}
            for identity in asked:
                del self._failed[identity]
        return bool(asked)

    def _are_waiting(self) -> bool:
        """Whether a run waits for another one: for that somebody has to be there."""
        return any(needed in self._open for run in self._open for needed in self._needs[run])

    def _is_over(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._stop.ask(TIME_SPENT)
        return bool(self._stop.reason)

    def _is_ready(self, identity: str, spec: RunSpec) -> bool:
        """Whether all that the run requires is finished; a run that never will be is given up."""
        needs = self._needs[identity]
        if any(needed in self._open for needed in needs):
            return False
        if all(needed in self._usable for needed in needs):
            return True
        self._give_up(identity, f"{name_of(spec)} waits for a run that is not done")
        self._in_vain[identity] = spec
        return False

    def _take(self, identity: str, spec: RunSpec, is_mine: bool) -> bool:
        """Do the run unless it is finished or somebody else's; whether this worker did it."""
        folder, began = self._runs_root / name_of(spec), False

        def begun() -> None:
            nonlocal began
            began = True
            self.tally.begins(folder)
            tell(f"{RUN_LINE}{name_of(spec)}")

        try:
            state = plan.inspect(spec, self._runs_root).state
            if state in ("done", "failed"):
                self._finished(identity, spec, state)
            if state in ("done", "failed") or not is_mine:
                return False
            if state == "running" and not may_be_claimed(folder, self._watch):
                return False
            self._code.check()
            with terminal.progress() as show:
                outcome = in_process.run_one(
                    spec,
                    self._runs_root,
                    lambda fields: self._step(show, fields),
                    stop=self._stop,
                    watch=self._watch,
                    begun=begun,
                )
            if began:
                in_process.report(outcome, folder)
                if outcome.state in ("done", "failed"):
                    self._finished(identity, spec, outcome.state)
                    self.tally.own += outcome.state == "done"
                    self.tally.ends()
                    self._count_failures(spec, outcome)
        except ChangedCodeError:
            raise
        except ZiaError as error:  # a corrupt folder, a full disk: nothing to do about it here
            self._give_up(identity, f"{name_of(spec)}: {error}")
        return began

    def _step(self, show: Any, fields: dict[str, Any]) -> None:
        show(**fields)
        if not self.tally.took_a_step:
            self.tally.took_a_step = True
            self._gets_going()
        self._is_over()

    def _count_failures(self, spec: RunSpec, outcome: in_process.Outcome) -> None:
        if outcome.state == "done":
            self.tally.in_a_row = []
        elif not outcome.reason.startswith(stored.DIVERGED):
            self.tally.in_a_row.append(name_of(spec))
        if len(self.tally.in_a_row) >= FAILURES_IN_A_ROW and self._open:
            self.tally.stopped = (
                f"stopped, since {len(self.tally.in_a_row)} runs in a row failed on "
                f"{machine()}, the last with: {outcome.reason}"
            )
        elif outcome.is_spoilt and self._open:
            self.tally.is_spoilt = True
            self.tally.stopped = f"stopped, since {in_process.SPOILT}"
        if self.tally.stopped:
            self._stop.ask(self.tally.stopped)

    def _finished(self, identity: str, spec: RunSpec, state: str) -> None:
        if state == "done" or stored.has_diverged(self._runs_root / name_of(spec)):
            self._usable.add(identity)
        del self._open[identity]
        self.tally.done += state == "done"
        self.tally.failed += state == "failed"
        if state == "failed":
            self._failed[identity] = spec

    def _give_up(self, identity: str, sentence: str) -> None:
        say(sentence)
        del self._open[identity]
        self.tally.left += 1


def machine() -> str:
    """The name of this machine, as Slurm has it if this is one of its nodes."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def name_of(spec: RunSpec) -> str:
    """`<experiment>/<folder>` of a run, as its path under the folder of runs."""
    return f"{spec.experiment}/{spec.folder_name}"
