"""Ask Slurm about queued jobs and nodes. Needs no `sacct`, which many clusters lack."""

import math
import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from experiments.dispatch.job_environment import without_job_variables
from zia_core.errors import ZiaError

# The name comes last, as other users' names may contain the separator.
FORMAT = "%i|%T|%N|%r|%j"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Job:
    """An unfinished job, or task of a job array."""

    id: str
    state: str  # Slurm's word: PENDING, RUNNING, COMPLETING, ...
    node: str
    reason: str  # why it is pending
    name: str


def jobs() -> list[Job]:
    """All unfinished jobs of this user; ZiaError if Slurm does not answer."""
    command = ["squeue", "--user", str(os.getuid()), "--array", "--noheader", "--format", FORMAT]
    lines = run(command).splitlines()
    return [Job(*line.split("|", 4)) for line in lines if line.count("|") >= 4]


def jobs_if_known() -> list[Job] | None:
    """As `jobs`, but None if there is no Slurm or it does not answer."""
    try:
        return jobs()
    except ZiaError:
        return None


def own_job(name: str) -> str:
    """The id of this process's job, confirmed by Slurm, to act on.

    Raises:
        ZiaError: its name is not `name`, or Slurm does not answer: variables may be inherited.
    """
    job = job_here()
    called = run(["squeue", "--noheader", "--job", job, "--format", "%j"]).splitlines()
    if name not in called:
        raise ZiaError(
            f"job {job}, which the environment names, is called {' '.join(called)!r:.60} and not "
            f"{name}: it is not ours, and left alone"
        )
    return job


def job_here() -> str:
    """The job that the environment names, as an argument of Slurm's commands; only for queries.

    For an array task this is ARRAY_TASK: its own $SLURM_JOB_ID may equal that of the whole array.
    """
    array = os.environ.get("SLURM_ARRAY_JOB_ID")
    return f"{array}_{os.environ['SLURM_ARRAY_TASK_ID']}" if array else os.environ["SLURM_JOB_ID"]


def seconds_left(job: str) -> float | None:
    """Seconds until the time limit of a running job; None if Slurm does not say."""
    try:
        said = run(["squeue", "--noheader", "--job", job, "--format", "%L"]).strip()
    except ZiaError:
        return None
    if said == "UNLIMITED":
        return math.inf
    parts = re.fullmatch(r"(?:(\d+)-)?(?:(\d+):)?(\d+):(\d+)", said)
    if parts is None:
        return None
    days, hours, minutes, seconds = (int(part or 0) for part in parts.groups())
    return ((24 * days + hours) * 60 + minutes) * 60.0 + seconds


def nodes(partition: str | None) -> set[str]:
    """The usable nodes of a partition, or of the default one; empty if unknown."""
    states = "--states=idle,mixed,allocated,completing"
    try:
        lines = run(["sinfo", "--noheader", "--Node", states, "--format", "%P %N"]).splitlines()
    except ZiaError:
        return set()
    listed = [line.split() for line in lines]
    asked = set(partition.split(",")) if partition else {name for name, _ in listed if "*" in name}
    return {node for name, node in listed if {name, name.rstrip("*")} & asked}


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs; they get SIGTERM and time to save before SIGKILL."""
    run(["scancel", *ids])


def run(command: Sequence[str]) -> str:
    """The output of a Slurm command; ZiaError if it is missing or fails."""
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            timeout=TIMEOUT_S,
            check=False,
            env=without_job_variables(),
        )
    except FileNotFoundError as error:
        raise ZiaError(
            f"there is no {command[0]} here: is this a machine of the cluster?"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ZiaError(f"{command[0]} did not answer within {TIMEOUT_S} seconds") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ZiaError(f"{command[0]} failed: {said:.300}")
    return done.stdout
