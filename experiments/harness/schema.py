"""Fields of a run's files, with their types; further fields may be anything.

`stored` checks them as it reads; other code reads these files through it.
"""

from typing import Any, Literal, NotRequired, TypedDict, get_args

State = Literal["pending", "running", "preempted", "failed", "done"]
STATES = get_args(State)

CONFIG: dict[str, Any] = {
    "experiment": str,
    "version": int,
    "task": str,
    "method": str,
    "backbone": str,
    "data": str,
    "profile": str,
    "seed": int,
    "settings": dict,
}
# Lines of metrics.jsonl and of timing.jsonl; every one has "step".
METRICS: dict[str, Any] = {
    "step": int,
    "epoch": float,
    "loss": float,
    "grad_norm": float,
    "lr": float,
    "labels": int,
    "eval": dict[str, float | None],
    "gates": dict,
}
TIMING: dict[str, Any] = {
    "step": int,
    "seconds": float,
    "tokens": float,
    "tokens_per_s": float,
    "peak_memory_bytes": int | None,
}


class Progress(TypedDict):
    """How far a run is."""

    step: int
    total: int
    loss: NotRequired[float | None]
    lr: NotRequired[float | None]
    tokens_per_s: NotRequired[float | None]
    eta_s: NotRequired[float | None]


class Attempt(TypedDict):
    """One process's attempt at a run."""

    host: str
    owner: NotRequired[int]
    pid: NotRequired[int]
    started: NotRequired[str]
    ended: NotRequired[str | None]
    end: NotRequired[str | None]
    git_sha: NotRequired[str | None]


class Status(TypedDict):
    """status.json; `progress` is empty until the first step."""

    state: State
    reason: NotRequired[str | None]
    attempts: list[Attempt]
    progress: dict  # type: ignore[type-arg]


class Git(TypedDict, total=False):
    """The commit, and changes on top of it."""

    sha: str | None
    dirty: bool
    diff_sha256: str | None


class Cpu(TypedDict, total=False):
    """The processor."""

    model: str | None
    cores: int | None
    usable_cores: int | None


class Torch(TypedDict, total=False):
    """The build of torch and its devices."""

    version: str
    cuda: str | None
    threads: int
    gpus: list[str]


class Environment(TypedDict, total=False):
    """environment.json; `data` and `weights` map names to hashes."""

    git: Git | None
    packages: dict[str, str]
    python: str
    platform: str
    host: str
    cpu: Cpu | None
    torch: Torch | None
    data: dict[str, str]
    weights: dict[str, str]
    ranks: int
    timed: bool  # False: published as a run that shared its cores
