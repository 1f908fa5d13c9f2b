"""Find the jobs and local workers that are active on a folder of runs, and cancel them."""

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

POLL_S = 5.0  # between two calls of squeue: after each change,
MAX_POLL_S = 30.0  # and at most, as everybody shares the controller
SLOWER = 1.5  # factor after each call that brought nothing new


@dataclass(frozen=True)
class ActiveSubmission:
    """A submission with unfinished jobs, or with living workers on this machine."""

    submission: Submission
    runs: frozenset[str]  # assigned to its jobs or workers
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
        avoided = f"; no run starts on {nodes}" if nodes else ""
        return f"submission {name}: {runs}, job {', '.join(_arrays(self.jobs))}: {listed}{avoided}"


def active_submissions(runs_root: Path, jobs: Sequence[squeue.Job]) -> list[ActiveSubmission]:
    """Every submission that is still worked on, given the `jobs` of squeue."""
    found = []
    for submitted in submission.load_all(runs_root):
        groups = {submitted.job_name(n): group for n, group in enumerate(submitted.groups)}
        own = tuple(job for job in jobs if job.name in groups)
        recorded = (Process(**each) for group in submitted.groups for each in group.processes)
        processes = tuple(process for process in recorded if lives_here(process))
        if processes:
            runs = frozenset(run for group in submitted.groups for run in group.runs)
            found.append(ActiveSubmission(submitted, runs, processes=processes))
        elif own:
            runs = frozenset(run for job in own for run in groups[job.name].runs)
            found.append(ActiveSubmission(submitted, runs, jobs=own))
    return found


class ActiveJobs:
    """Repeatedly finds the active submissions, calling squeue at most every few seconds.

    While nothing changes it is called less often, and never without Slurm submissions.
    """

    def __init__(self, runs_root: Path) -> None:
        self.slurm_answers = True  # whether Slurm answered
        self._runs_root = runs_root
        self._asked_at, self._pause_s = -math.inf, POLL_S
        self._found: list[ActiveSubmission] = []

    def current(self) -> list[ActiveSubmission]:
        """The active submissions; the last known ones while Slurm does not answer."""
        if time.monotonic() - self._asked_at >= self._pause_s:
            self._asked_at, before = time.monotonic(), self._found
            ask_slurm = uses_slurm(submission.load_all(self._runs_root))
            jobs = squeue.jobs_if_known() if ask_slurm else []
            self.slurm_answers = jobs is not None
            if self.slurm_answers or not self._found:
                self._found = active_submissions(self._runs_root, jobs or [])
            slower = ask_slurm and self._found == before
            self._pause_s = min(SLOWER * self._pause_s, MAX_POLL_S) if slower else POLL_S
        return self._found


def uses_slurm(known: Sequence[Submission]) -> bool:
    """Whether any of the submissions went to Slurm."""
    return any(submitted.executor == "slurm" for submitted in known)


def cancel(runs_root: Path, name: str | None) -> Iterator[str]:
    """Cancel everything active on the runs, or one submission; each worker saves at its next step.

    Yields what is cancelled. Raises InvalidChoiceError for an unknown submission, and ZiaError if
    there are Slurm jobs but Slurm does not answer or, at the end, if workers are somebody else's.
    """
    of_others = []
    known = submission.load_all(runs_root)
    if name is not None:
        check_choice("submission", name, [submitted.name for submitted in known])
    for work in active_submissions(runs_root, squeue.jobs() if uses_slurm(known) else []):
        if name not in (None, work.submission.name):
            continue
        if work.jobs:
            squeue.cancel(_arrays(work.jobs))
        try:
            for process in work.processes:
                with suppress(ProcessLookupError):  # it has just ended
                    os.kill(process.pid, signal.SIGTERM)
        except PermissionError:
            of_others.append(str(work))
            continue
        yield str(work)
    if of_others:
        raise ZiaError(f"only the user who started them can end them: {'; '.join(of_others)}")


def _arrays(jobs: Sequence[squeue.Job]) -> list[str]:
    """The ids of the arrays that the jobs belong to."""
    return list(dict.fromkeys(job.id.split("_")[0] for job in jobs))
