"""Read the cluster file: the resources that jobs request from Slurm, in TOML.

Top-level keys apply to all runs; `[experiment.NAME]` and then `[backbone."NAME"]` override them
for the runs of an experiment or a backbone.
"""

import os
import tomllib
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Self, get_type_hints

from experiments.harness import plan, registry
from experiments.harness.experiment import SHARDED_GPUS, Models
from experiments.harness.spec import RunSpec
from zia_core.errors import ZiaError
from zia_core.validation import conform

VARIABLE = "ZIA_CLUSTER"
MEM_GB = {"mini": 4.0, "small": 16.0, "paper": 64.0}  # LLaMA-7B is loaded in float32, 28 GB
OVERRIDES = ("experiment", "backbone")


@dataclass(frozen=True)
class Resources:
    """What one job requests, and how many jobs share the runs with equal needs."""

    partition: str | None = None  # None: the cluster's default, here and below
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    exclude: str | None = None  # nodes to avoid, as for sbatch: n1,n[7-9]
    gpus_per_node: int | None = None  # None: one for runs on cuda, 0 on cpu
    cpus_per_task: int = 4
    mem_gb: float | None = None  # host memory; None: by profile
    timeout_min: int = 240
    signal_delay_s: int = 120  # how long before the time limit a job is told to save
    workers: int = 16  # most jobs; each takes run after run
    parallelism: int = 16  # most jobs at the same time
    setup: tuple[str, ...] = ()  # shell commands before Python starts

    def __post_init__(self) -> None:
        """Refuse what Slurm would refuse, and whatever would break a line of the script."""
        for name, value in asdict(self).items():
            texts = value if isinstance(value, tuple) else (value,)
            if any(isinstance(text, str) and not text.isprintable() for text in texts):
                raise ZiaError(f"{name} must be on one line, without control characters")
            if isinstance(value, str) and (not value or value.startswith("-")):
                raise ZiaError(f"{name} {value!r:.60} is not a valid Slurm name")
        for name in ("cpus_per_task", "mem_gb", "timeout_min", "workers", "parallelism"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise ZiaError(f"{name} must be more than 0")
        if (self.gpus_per_node or 0) < 0:
            raise ZiaError("gpus_per_node must not be less than 0")
        if not 0 < self.signal_delay_s < 60 * self.timeout_min:
            raise ZiaError(
                f"signal_delay_s must be between 0 and the {60 * self.timeout_min} seconds of "
                "timeout_min: a job needs that time to finish a step and to save"
            )

    def filled_in(self, device: str, profile: str) -> Self:
        """Fill in defaults for None; ZiaError if runs on cuda would have no GPU."""
        if device == "cuda" and self.gpus_per_node == 0:
            raise ZiaError("gpus_per_node = 0, but the runs are for cuda: use --device cpu")
        gpus = int(device == "cuda") if self.gpus_per_node is None else self.gpus_per_node
        memory = MEM_GB.get(profile, 16.0) if self.mem_gb is None else self.mem_gb
        return replace(self, gpus_per_node=gpus, mem_gb=memory)


@dataclass(frozen=True)
class Cluster:
    """The contents of a cluster file."""

    common: Resources = field(default_factory=Resources)
    by_experiment: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    by_backbone: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    def resources(self, spec: RunSpec, device: str) -> Resources:
        """What a job for this run requests."""
        changes = {
            **self.by_experiment.get(spec.experiment, {}),
            **self.by_backbone.get(spec.backbone, {}),
        }
        try:
            return replace(self.common, **changes).filled_in(device, spec.profile)
        except ZiaError as error:
            raise ZiaError(f"the cluster file, for {spec.experiment}: {error}") from error

    def gpus_for_shards(
        self, experiment: str | None, profile: str, device: str, models: Models = Models()
    ) -> int:
        """The GPUs of a job that trains in shards, for `plan.planned`; 1 without such runs."""
        tables = (vars(self.common), *self.by_experiment.values(), *self.by_backbone.values())
        if max(table.get("gpus_per_node") or 1 for table in tables) < SHARDED_GPUS:
            return 1
        specs = plan.planned(experiment, profile, device, models, gpus=SHARDED_GPUS)
        gpus = [
            self.resources(spec, device).gpus_per_node or 1
            for spec in specs
            if registry.get(spec.experiment).in_shards(spec)
        ]
        return min(gpus, default=1)

    def device(self, asked: str, profile: str) -> str:
        """Resolve "auto" to "cpu" or "cuda"; the submitting machine need not have a GPU.

        It is cuda if jobs get GPUs or, if the file does not say, in every profile but mini.
        """
        if asked != "auto":
            return asked
        gpus = self.common.gpus_per_node
        return "cuda" if (gpus is None and profile != "mini") or gpus else "cpu"


def read(path: Path | None) -> Cluster:
    """Read `path`, or the file that `$ZIA_CLUSTER` names; the defaults without either.

    Raises ZiaError, with file and key, for an unknown key or a wrong type.
    """
    if path is None and (named := os.environ.get(VARIABLE)):
        path = Path(named)
    if path is None:
        return Cluster()
    try:
        content = tomllib.loads(path.read_text("utf-8"))
    except OSError as error:
        raise ZiaError(f"cannot read the cluster file {path}: {error.strerror}") from error
    except ValueError as error:  # TOMLDecodeError and UnicodeDecodeError
        raise ZiaError(f"the cluster file {path} is not valid TOML: {error}") from error
    try:
        return _parse(content)
    except ZiaError as error:
        raise ZiaError(f"the cluster file {path}: {error}") from error


def _parse(content: Mapping[str, Any]) -> Cluster:
    top = {key: value for key, value in content.items() if key not in OVERRIDES}
    common = Resources(**_checked(top, ""))
    tables: dict[str, dict[str, dict[str, Any]]] = {}
    for kind in OVERRIDES:
        given = content.get(kind, {})
        if not isinstance(given, dict) or not all(isinstance(t, dict) for t in given.values()):
            raise ZiaError(f'{kind} must be a table for each name: [{kind}."NAME"]')
        tables[kind] = {
            name: _checked(table, f" in [{kind}.{name!r:.60}]") for name, table in given.items()
        }
        for name, changes in tables[kind].items():
            if kind == "experiment":
                registry.get(name)
            try:
                replace(common, **changes)
            except ZiaError as error:
                raise ZiaError(f"[{kind}.{name!r:.60}]: {error}") from error
    return Cluster(common, tables["experiment"], tables["backbone"])


def _checked(table: Mapping[str, Any], where: str) -> dict[str, Any]:
    kinds = get_type_hints(Resources)
    for key in table:
        if key not in kinds:
            raise ZiaError(f"{key!r:.60} is not a key{where}; choose from: {', '.join(kinds)}")
    return {key: conform(kinds[key], value, key + where) for key, value in table.items()}
