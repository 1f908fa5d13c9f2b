"""Who works on the runs of a folder: jobs in Slurm's queue, local workers; and how to end that."""

import math
import os
import signal
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from experiments.dispatch import bad_nodes, squeue, submission
from experiments.dispatch.submission import Submission
from experiments.harness.process_identity import Process, lives_here
from experiments.harness.registry import check_choice
from zia_core.errors import ZiaError

POLL_S = 5.0  # between two questions to Slurm while one waits, at first and after each change
POLL_AT_MOST_S = 30.0  # and later: its controller answers everybody
SLOWER = 1.5  # times as long before each question that brought nothing new


@dataclass(frozen=True)
class AtWork:
    """A submission with jobs that have not ended, or workers that live on this machine."""

    submission: Submission
    runs: frozenset[str]  # which its jobs or workers are there for
    jobs: tuple[squeue.Job, ...] = ()
    processes: tuple[Process, ...] = ()

    def __str__(self) -> str:
        name, runs = self.submission.name, f"{len(self.runs)} runs"
        if self.processes:
            return f"submission {name}: {runs}, {len(self.processes)} local workers"
        states = Counter(
            f"{job.state} ({job.reason})" if job.state == "PENDING" else job.state
            for job in self.jobs
        )
        listed = ", ".join(f"{n} {state}" for state, n in states.items())
        nodes = ", ".join(bad_nodes.avoided(self.submission))
        avoided = f"; no run gets going on {nodes}" if nodes else ""
        return f"submission {name}: {runs}, job {', '.join(_arrays(self.jobs))}: {listed}{avoided}"


def at_work(runs_root: Path, jobs: Sequence[squeue.Job]) -> list[AtWork]:
    """Every submission that somebody is still there for; `jobs` is what Slurm says."""
    found = []
    for submitted in submission.load_all(runs_root):
        groups = {submitted.job_name(n): group for n, group in enumerate(submitted.groups)}
        own = tuple(job for job in jobs if job.name in groups)
        recorded = (Process(**each) for group in submitted.groups for each in group.processes)
        processes = tuple(process for process in recorded if lives_here(process))
        if processes:
            runs = frozenset(run for group in submitted.groups for run in group.runs)
            found.append(AtWork(submitted, runs, processes=processes))
        elif own:
            runs = frozenset(run for job in own for run in groups[job.name].runs)
            found.append(AtWork(submitted, runs, jobs=own))
    return found


class Oversight:
    """The same over and over again; Slurm, which may not be here, is asked every few seconds.

    And where nothing happens every half a minute, and not at all without jobs of Slurm's.
    """

    def __init__(self, runs_root: Path) -> None:
        self.knows = True  # whether Slurm answered
        self._runs_root = runs_root
        self._asked_at, self._pause_s = -math.inf, POLL_S
        self._found: list[AtWork] = []

    def look(self) -> list[AtWork]:
        """What is at work; what was, where Slurm does not answer."""
        if time.monotonic() - self._asked_at >= self._pause_s:
            self._asked_at, before = time.monotonic(), self._found
            asks_slurm = uses_slurm(submission.load_all(self._runs_root))
            jobs = squeue.jobs_if_known() if asks_slurm else []
            self.knows = jobs is not None
            if self.knows or not self._found:
                self._found = at_work(self._runs_root, jobs or [])
            slower = asks_slurm and self._found == before
            self._pause_s = min(SLOWER * self._pause_s, POLL_AT_MOST_S) if slower else POLL_S
        return self._found


def uses_slurm(known: Sequence[Submission]) -> bool:
    """Whether any of the submissions is one to Slurm."""
    return any(submitted.executor == "slurm" for submitted in known)


def cancel(runs_root: Path, name: str | None) -> Iterator[str]:
    """End all that works on the runs, or one submission: each saves its run at the next step.

    Yields what is ended. Raises InvalidChoiceError for a submission that does not exist, and
    ZiaError where there are jobs of Slurm's and it cannot be asked, or, at the end, where workers
    are somebody else's.
    """
    of_others = []
    known = submission.load_all(runs_root)
    if name is not None:
        check_choice("submission", name, [submitted.name for submitted in known])
    for work in at_work(runs_root, squeue.jobs() if uses_slurm(known) else []):
        if name not in (None, work.submission.name):
            continue
        if work.jobs:
            squeue.cancel(_arrays(work.jobs))
        try:
            for process in work.processes:
                with suppress(ProcessLookupError):  # it has ended just now
                    os.kill(process.pid, signal.SIGTERM)
        except PermissionError:
            of_others.append(str(work))
            continue
        yield str(work)
    if of_others:
        raise ZiaError(f"only who started them can end them: {'; '.join(of_others)}")


def _arrays(jobs: Sequence[squeue.Job]) -> list[str]:
    """The ids of whole arrays, of which the jobs are tasks."""
    return list(dict.fromkeys(job.id.split("_")[0] for job in jobs))
