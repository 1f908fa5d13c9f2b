"""What Slurm says about jobs in its queue: `squeue` only, since many clusters have no `sacct`."""

import os
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass

from zia_core.errors import ZiaError

# The name comes last, since somebody else's may contain the separator.
FORMAT = "%i|%T|%N|%r|%j"
TIMEOUT_S = 60


@dataclass(frozen=True)
class Job:
    """One job, or one task of a job array, that has not ended."""

    id: str
    state: str  # Slurm's word: PENDING, RUNNING, COMPLETING, ...
    node: str
    reason: str  # why it is pending
    name: str


def jobs() -> list[Job]:
    """All jobs of this user that have not ended; ZiaError if Slurm cannot be asked."""
    command = ["squeue", "--user", str(os.getuid()), "--array", "--noheader", "--format", FORMAT]
    lines = run(command).splitlines()
    return [Job(*line.split("|", 4)) for line in lines if line.count("|") >= 4]


def jobs_if_known() -> list[Job] | None:
    """The same; None where there is no Slurm, or it does not answer."""
    try:
        return jobs()
    except ZiaError:
        return None


def cancel(ids: Sequence[str]) -> None:
    """Cancel jobs: they get SIGTERM, and time to save before SIGKILL."""
    run(["scancel", *ids])


def run(command: Sequence[str]) -> str:
    """What a command of Slurm prints; ZiaError if it is not there or fails."""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
        )
    except FileNotFoundError as error:
        raise ZiaError(
            f"there is no {command[0]} here: is this a machine of the cluster?"
        ) from error
    except subprocess.TimeoutExpired as error:
        raise ZiaError(f"{command[0]} gave no answer within {TIMEOUT_S} seconds") from error
    if done.returncode != 0:
        said = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        raise ZiaError(f"{command[0]} failed: {said:.300}")
    return done.stdout
