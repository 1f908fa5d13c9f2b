"""Submissions: which runs were given to which workers, with which code.

`<runs>/submissions/<id>/` contains `submission.json` and the workers' logs.
"""

import os
import secrets
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Self, TypedDict

from experiments.dispatch.code_snapshot import SNAPSHOTS, Code, take_snapshot
from experiments.harness import plan, schema
from experiments.harness.experiment import Models
from experiments.harness.ownership import Ownership, Watch
from experiments.harness.process_identity import Process
from experiments.harness.provenance import PROJECT, SUBMISSION, SUBMISSION_FILE
from experiments.harness.spec import RunSpec
from experiments.harness.stage import Stage
from experiments.io.files import read_json, write_errors, write_json_atomic
from experiments.io.safe_names import inside
from zia_core.errors import ZiaError
from zia_core.validation import conform_fields

SUBMISSIONS = "submissions"  # in the folder of runs
LOCK_S = 180.0  # longer than a submission takes, even if copying the code is slow
LOGS = "logs"  # in the submission folder
# Data and weights, with their defaults: jobs run other code, in any working folder.
PLACES: dict[str, Path | None] = {"ZIA_DATA": None, "ZIA_WEIGHTS": PROJECT / "weights"}


@dataclass(frozen=True)
class Group:
    """Runs with equal resources, and the workers that do them."""

    runs: tuple[str, ...]  # <experiment>/<folder>
    workers: int
    resources: dict[str, Any] = field(default_factory=dict)
    jobs: tuple[str, ...] = ()  # Slurm ids
    processes: tuple[dict[str, Any], ...] = ()  # of local workers


class RecordedGroup(TypedDict):
    """A group in submission.json."""

    runs: tuple[str, ...]
    workers: int
    resources: dict  # type: ignore[type-arg]
    jobs: tuple[str, ...]
    processes: tuple[dict, ...]  # type: ignore[type-arg]


class RecordedStage(TypedDict):
    """A stage as submission.json holds it."""

    seeds: str
    reselect: bool


class RecordedModels(TypedDict):
    """Models and template that replace those of the plan, in submission.json."""

    backbone: str | None
    encoder: str | None
    template: str | None


@dataclass(frozen=True)
class Request:
    """What to reproduce, and where the results go."""

    experiment: str | None  # None: all with the profile
    profile: str
    device: str
    runs_root: Path
    out: Path  # of tables and figures
    stage: Stage = field(default_factory=Stage)
    models: Models = field(default_factory=Models)
    gpus: int = 1  # of a job that trains in shards

    def specs(self) -> list[RunSpec]:
        """The planned runs of the stage and their requirements."""
        return self.stage.of(
            plan.planned(self.experiment, self.profile, self.device, self.models, self.gpus)
        )


@dataclass(frozen=True)
class Submission:
    """The contents of submission.json: a request, the code, and the workers."""

    folder: Path
    executor: str
    experiment: str | None
    profile: str
    device: str
    out: str  # absolute
    snapshot: str
    git: dict[str, Any] | None
    groups: tuple[Group, ...]
    stage: Stage = field(default_factory=Stage)
    models: Models = field(default_factory=Models)
    gpus: int = 1

    @property
    def name(self) -> str:
        """Its id, the name of its folder."""
        return self.folder.name

    @property
    def runs_root(self) -> Path:
        """The folder of its runs."""
        return self.folder.parents[1]

    @property
    def code(self) -> Path:
        """The folder of the snapshot."""
        return inside(self.runs_root / SNAPSHOTS, self.snapshot, self.folder / SUBMISSION_FILE)

    def job_name(self, group: int) -> str:
        """The Slurm name of the jobs of a group, by which they are found."""
        return f"zia-{self.name}-{group}"

    def write(self) -> None:
        """Replace submission.json."""
        record = asdict(self) | {"folder": None}
        write_json_atomic(self.folder / SUBMISSION_FILE, record)

    def with_group(self, number: int, **changes: Any) -> Self:
        """Return a copy with one group changed."""
        groups = list(self.groups)
        groups[number] = replace(groups[number], **changes)
        return replace(self, groups=tuple(groups))

    @property
    def request(self) -> Request:
        """The request; its plan is computed again, by the same code."""
        out = Path(self.out)
        return Request(
            self.experiment,
            self.profile,
            self.device,
            self.runs_root,
            out,
            self.stage,
            self.models,
            self.gpus,
        )

    def environment(self) -> dict[str, str]:
        """The variables of its jobs, in addition to those of the submitting process.

        An existing PYTHONPATH must follow the snapshot. PYTHONSAFEPATH keeps Python from putting
        the current folder, often the checkout, before both.
        """
        places = {
            name: str(Path(place).absolute())
            for name, default in PLACES.items()
            if (place := os.environ.get(name) or default)
        }
        return places | {
            "PYTHONPATH": str(self.code),
            "PYTHONSAFEPATH": "1",
            "PYTHONDONTWRITEBYTECODE": "1",  # keeps the snapshot unchanged
            SUBMISSION: str(self.folder),
        }


def check_path(runs_root: Path) -> None:
    """Raise ZiaError if workers could not import their code below this folder of runs."""
    if os.pathsep in str(runs_root):
        raise ZiaError(
            f"the folder of runs {str(runs_root)!r} has a {os.pathsep!r} in its name, which splits "
            "PYTHONPATH, so workers would not run the submitted code: use another --runs, or "
            "--executor inprocess"
        )


def new_folder(runs_root: Path) -> Path:
    """A new folder, named by UTC time and some random digits."""
    moment = datetime.now(UTC).strftime("%Y%m%d-%H%M%S")
    return runs_root.absolute() / SUBMISSIONS / f"{moment}-{secrets.token_hex(3)}"


def load(folder: Path) -> Submission:
    """Read a submission; ZiaError if its file is missing or damaged."""
    path = folder / SUBMISSION_FILE
    record = read_json(path)
    kinds = {
        "executor": str,
        "experiment": str | None,
        "profile": str,
        "device": str,
        "out": str,
        "snapshot": str,
        "git": schema.Git | None,
        "groups": tuple[RecordedGroup, ...],
        "stage": RecordedStage,
        "models": RecordedModels,
        "gpus": int,
    }
    defaults = {"git": None, "stage": asdict(Stage()), "models": asdict(Models()), "gpus": 1}
    values = conform_fields(kinds, defaults | record, str(path))
    values["stage"] = Stage(**values["stage"])
    values["models"] = Models(**values["models"])
    groups = []
    for each in values.pop("groups"):
        for process in each["processes"]:
            Process.from_json(process, str(path))
        known = {name: each[name] for name in RecordedGroup.__annotations__}
        groups.append(Group(**known))
    values["groups"] = tuple(groups)
    return Submission(folder.absolute(), **values)


def load_all(runs_root: Path) -> list[Submission]:
    """Every submission, oldest first."""
    return [
        load(path.parent) for path in sorted(runs_root.glob(f"{SUBMISSIONS}/*/{SUBMISSION_FILE}"))
    ]


@contextmanager
def submission_lock(runs_root: Path) -> Iterator[None]:
    """Within the block, no other process submits runs of this folder."""
    watch, deadline = Watch(), time.monotonic() + LOCK_S
    while (owner := Ownership.claim(runs_root / SUBMISSIONS, watch=watch)) is None:
        if time.monotonic() > deadline:
            raise ZiaError(f"another process is submitting runs of {runs_root}: try again later")
        time.sleep(0.5)
    try:
        yield
    finally:
        owner.release()


def missing(specs: Sequence[RunSpec], runs_root: Path) -> list[RunSpec]:
    """The runs that are neither done nor failed."""
    return [spec for spec in specs if plan.inspect(spec, runs_root).state not in ("done", "failed")]


def describe(request: Request, executor: str, code: Code, groups: Sequence[Group]) -> Submission:
    """A new submission, not yet written."""
    return Submission(
        folder=new_folder(request.runs_root),
        executor=executor,
        experiment=request.experiment,
        profile=request.profile,
        device=request.device,
        out=str(request.out.absolute()),
        snapshot=code.digest,
        git=code.git,
        groups=tuple(groups),
        stage=request.stage,
        models=request.models,
        gpus=request.gpus,
    )


def create(request: Request, executor: str, groups: Sequence[Group]) -> Submission:
    """Copy the code and write the submission. The caller holds the submission lock."""
    submission = describe(request, executor, take_snapshot(PROJECT, request.runs_root), groups)
    with write_errors(submission.folder):
        (submission.folder / LOGS).mkdir(parents=True)
    submission.write()
    return submission
