"""Workers: each takes missing runs, one after another, until none is left that it could do.

Any number of workers, on any number of machines, may share a plan: a run belongs to the worker that
claims it, and the others skip it and check it again later.
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
from experiments.dispatch.code_snapshot import ChangedCodeError, CodeGuard
from experiments.dispatch.stop_signals import StopSignals
from experiments.harness import plan, registry, stored
from experiments.harness.folder import discard_checkpoints
from experiments.harness.ownership import Watch, may_be_claimed
from experiments.harness.spec import RunSpec
from experiments.io import terminal
from experiments.io.output import say, tell
from zia_core.errors import ZiaError

POLL_S = 1.0  # between two passes while nothing can be taken
MAX_CONSECUTIVE_FAILURES = 3  # then the machine may be at fault, and others get the rest
TIME_SPENT = "the worker's time is up"
RUN_LINE = "run "  # in a log, begins the line before the output of the named run


@dataclass
class WorkerSummary:
    """What one worker knows about the planned runs and their requirements."""

    done: int = 0
    failed: int = 0
    left: int = 0
    done_here: int = 0  # by this worker
    stopped: str = field(default="", compare=False)  # why it left the rest to others
    consecutive_failures: list[str] = field(
        default_factory=list, compare=False
    )  # names of the last runs
    took_a_step: bool = field(default=False, compare=False)  # any of its runs
    gpu_is_broken: bool = field(default=False, compare=False)  # so this process can do no more runs
    _run: Path | None = field(default=None, compare=False)  # that it has claimed
    _from_step: int = field(default=-1, compare=False)  # of the checkpoint that it started from
    _advanced: bool = field(default=False, compare=False)

    def __str__(self) -> str:
        counts = (
            f"{self.done} done, {self.failed} failed, {self.left} left; {self.done_here} done here"
        )
        return f"{counts}; {self.stopped}" if self.stopped else counts

    def begins(self, folder: Path) -> None:
        """The worker has claimed the run in `folder`."""
        self._advanced = self.has_advanced()
        self._run, self._from_step = folder, stored.checkpoint_step(folder)

    def ends(self) -> None:
        """That run is done, or has failed."""
        self._run, self._advanced = None, True

    def has_advanced(self) -> bool:
        """Whether a restart would continue later than this start did.

        That is, a run has ended here, or has a later checkpoint. Steps since the last checkpoint do
        not count: they would be repeated.
        """
        under_way = self._run is not None and stored.checkpoint_step(self._run) > self._from_step
        return self._advanced or under_way


class Worker:
    """Does the runs of a plan in one process.

    It stops after a few consecutive failures, which may be due to its machine (a diverged loss does
    not count), and after an error that breaks the process's GPU.

    `stop` has the signals. After `seconds` the worker stops at a step boundary. It stays for
    `idle_seconds` while others work on everything that is left; None: until that is finished, ready
    to take over from a worker that dies. `summary` shows others how it gets on. `on_first_step` is
    called when any run has taken a step.
    """

    def __init__(
        self,
        runs_root: Path,
        stop: StopSignals,
        *,
        seconds: float | None = None,
        idle_seconds: float | None = None,
        summary: WorkerSummary | None = None,
        on_first_step: Callable[[], None] = lambda: None,
    ) -> None:
        self.summary = summary or WorkerSummary()
        self._on_first_step = on_first_step
        self._runs_root, self._stop = runs_root, stop
        self._deadline = None if seconds is None else time.monotonic() + seconds
        self._idle_seconds = idle_seconds
        self._watch = Watch()
        self._open: dict[str, RunSpec] = {}
        self._needs: dict[str, list[str]] = {}
        self._usable: set[str] = set()  # finished runs, as far as others need them
        self._failed: dict[str, RunSpec] = {}
        self._in_vain: dict[str, RunSpec] = {}  # those that waited for one of them

    def work(self, specs: Sequence[RunSpec], mine: Collection[str] | None = None) -> WorkerSummary:
        """Do what can be done of `specs` and their requirements.

        `mine` names the runs, `<experiment>/<folder>`, that this worker has the GPUs and memory
        for; it waits for others only if one of its own requires them.

        Raises ChangedCodeError if the code is edited meanwhile.
        """
        for spec in plan.with_requirements(specs):
            required = registry.get(spec.experiment).requires(spec)
            self._open[spec.identity] = spec
            self._needs[spec.identity] = [needed.identity for needed in required]
        self._code = CodeGuard()
        idle_since = time.monotonic()
        while not self._is_over() and (self._open or self._reopen_pending()):
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
        self.summary.left += len(self._open)
        return self.summary

    def _reopen_pending(self) -> bool:
        """Take up failed runs that were made pending again, which no other job would do."""
        asked = {}
        for identity, spec in self._failed.items():
            with suppress(ZiaError):
                if plan.inspect(spec, self._runs_root).state == "pending":
                    asked[identity] = spec
        if asked:
            self._open = asked | self._in_vain
            self.summary.failed -= len(asked)
            self.summary.left -= len(self._in_vain)
            self._usable -= asked.keys()
            self._in_vain = {}
            for identity in asked:
                del self._failed[identity]
        return bool(asked)

    def _are_waiting(self) -> bool:
        """Whether a run waits for another one, so that a worker must stay."""
        return any(needed in self._open for run in self._open for needed in self._needs[run])

    def _is_over(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            self._stop.ask(TIME_SPENT)
        return bool(self._stop.reason)

    def _is_ready(self, identity: str, spec: RunSpec) -> bool:
        """Whether all requirements are finished; give up a run whose requirements failed."""
        needs = self._needs[identity]
        if any(needed in self._open for needed in needs):
            return False
        if all(needed in self._usable for needed in needs):
            return True
        self._give_up(identity, f"{name_of(spec)} waits for a run that is not done")
        self._in_vain[identity] = spec
        return False

    def _take(self, identity: str, spec: RunSpec, is_mine: bool) -> bool:
        """Do the run unless it is finished or taken; return whether this worker did it."""
        folder, began = self._runs_root / name_of(spec), False

        def begun() -> None:
            nonlocal began
            began = True
            self.summary.begins(folder)
            tell(f"{RUN_LINE}{name_of(spec)}")

        try:
            state = plan.inspect(spec, self._runs_root).state
            if state == "done":
                discard_checkpoints(folder)
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
                    self.summary.done_here += outcome.state == "done"
                    self.summary.ends()
                    self._count_failures(spec, outcome)
        except ChangedCodeError:
            raise
        except ZiaError as error:  # a corrupt folder or a full disk, which cannot be helped here
            self._give_up(identity, f"{name_of(spec)}: {error}")
        return began

    def _step(self, show: Any, fields: dict[str, Any]) -> None:
        show(**fields)
        if not self.summary.took_a_step:
            self.summary.took_a_step = True
            self._on_first_step()
        self._is_over()

    def _count_failures(self, spec: RunSpec, outcome: in_process.Outcome) -> None:
        if outcome.state == "done":
            self.summary.consecutive_failures = []
        elif not outcome.reason.startswith(stored.DIVERGED):
            self.summary.consecutive_failures.append(name_of(spec))
        failures = len(self.summary.consecutive_failures)
        if failures >= MAX_CONSECUTIVE_FAILURES and self._open:
            self.summary.stopped = (
                f"stopped, since {failures} consecutive runs failed on "
                f"{machine()}, the last with: {outcome.reason}"
            )
        elif outcome.gpu_is_broken and self._open:
            self.summary.gpu_is_broken = True
            self.summary.stopped = f"stopped, since {in_process.GPU_IS_BROKEN}"
        if self.summary.stopped:
            self._stop.ask(self.summary.stopped)

    def _finished(self, identity: str, spec: RunSpec, state: str) -> None:
        if state == "done" or stored.has_diverged(self._runs_root / name_of(spec)):
            self._usable.add(identity)
        del self._open[identity]
        self.summary.done += state == "done"
        self.summary.failed += state == "failed"
        if state == "failed":
            self._failed[identity] = spec

    def _give_up(self, identity: str, sentence: str) -> None:
        say(sentence)
        del self._open[identity]
        self.summary.left += 1


def machine() -> str:
    """The name of this machine; on a cluster, Slurm's name of the node."""
    return os.environ.get("SLURMD_NODENAME") or socket.gethostname()


def name_of(spec: RunSpec) -> str:
    """`<experiment>/<folder>`, the path of a run in the folder of runs."""
    return f"{spec.experiment}/{spec.folder_name}"
