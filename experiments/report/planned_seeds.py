"""Count the planned seeds of a row, so that a table can say "3 of 5"."""

from collections.abc import Collection, Iterator
from dataclasses import asdict, fields
from typing import Any

from experiments.harness.experiment import SHARDED_GPUS
from experiments.harness.report_info import Lines
from experiments.harness.spec import RunSpec
from experiments.io.files import canonical_json
from experiments.report.run import Run
from zia_core.errors import ZiaError


class Plans:
    """The plans of the experiments, each made once."""

    def __init__(self) -> None:
        self._plans: dict[tuple[str, str, str, int], list[RunSpec]] = {}
        self._seeds: dict[tuple[str, str, str], dict[str, set[int]]] = {}
        self._stages: dict[tuple[str, str, str, Lines | None], list[tuple[str, str, bool]]] = {}

    def tasks(self, run: Run) -> set[str]:
        """Return the tasks planned in the profile of this run."""
        return {spec.task for spec in self._specs(run.experiment, run.profile, _device(run))}

    def leaves_out(self, run: Run, method: str, tasks: Collection[str]) -> bool:
        """Whether the profile of this run plans the method on none of the tasks (empty: on any).

        It has to be planned in another profile: names that only tables know are not left out.
        """
        from experiments.harness import registry

        experiment = registry.experiments().get(run.experiment)
        if experiment is None or run.profile not in experiment.profiles:
            return False
        here = self._specs(run.experiment, run.profile, _device(run))
        if any(spec.method == method and (not tasks or spec.task in tasks) for spec in here):
            return False
        everywhere = (self._specs(run.experiment, p, "cpu") for p in experiment.profiles)
        return any(spec.method == method for specs in everywhere for spec in specs)

    def later(
        self, run: Run, line: str, tasks: Collection[str], lines: Lines | None = None
    ) -> bool:
        """Whether this line is planned in the profile of this run, but not in the first stage.

        `lines` names the lines of runs that are not called by their methods.
        """
        key = (run.experiment, run.profile, _device(run), lines)
        if key not in self._stages:
            self._stages[key] = list(_stages(self._specs(*key[:3]), lines))
        of_it = [each for each in self._stages[key] if each[1] == line]
        stages = [later for task, _, later in of_it if not tasks or task in tasks]
        return bool(stages) and all(stages)

    def seeds(self, run: Run) -> int | None:
        """Return how many seeds of this run are planned, its own included, also if for shards.

        None if no such run is planned: its settings were changed, it is of an older version, or its
        experiment is not registered.
        """
        from experiments.harness import registry

        experiment = registry.experiments().get(run.experiment)
        if experiment is None:
            return None
        try:
            spec = RunSpec.from_json(
                {field.name: getattr(run, field.name) for field in fields(RunSpec)},
                experiment.settings,
            )
        except ZiaError:  # a setting that no longer exists
            return None
        planned = self._planned(run.experiment, run.profile, _device(run))
        seeds = planned.get(_without_seed(spec))
        return None if seeds is None else len(seeds)

    def _planned(self, experiment: str, profile: str, device: str) -> dict[str, set[int]]:
        key = (experiment, profile, device)
        if key not in self._seeds:
            self._seeds[key] = {}
            for spec in self._specs(*key, gpus=SHARDED_GPUS):
                self._seeds[key].setdefault(_without_seed(spec), set()).add(spec.seed)
        return self._seeds[key]

    def _specs(self, experiment: str, profile: str, device: str, gpus: int = 1) -> list[RunSpec]:
        from experiments.harness import plan, registry
        from experiments.harness.rehearsal import rehearsed_profile

        key = (experiment, profile, device, gpus)
        if key not in self._plans:
            owner = registry.experiments().get(experiment)
            known = owner is not None and rehearsed_profile(profile) in owner.profiles
            of = (experiment, profile, device)
            self._plans[key] = plan.planned(*of, gpus=gpus) if known else []
        return self._plans[key]


def _device(run: Run) -> str:
    return str(run.settings.get("device", "cpu"))


def _undone(spec: RunSpec) -> Run:
    planned: dict[str, Any] = {field.name: getattr(spec, field.name) for field in fields(RunSpec)}
    planned |= {"settings": asdict(spec.settings), "folder": spec.folder_name, "state": "missing"}
    return Run(**planned, reason="", hardware="", result={})


def _stages(specs: list[RunSpec], lines: Lines | None) -> Iterator[tuple[str, str, bool]]:
    """Yield task and line of each final run, and whether the first stage leaves it out."""
    from experiments.harness.stage import is_choice, is_later

    finals = {spec.folder_name: spec for spec in specs if not is_choice(spec)}
    runs = list(map(_undone, finals.values()))
    for run, line in lines(runs) if lines else ((run, run.method) for run in runs):
        yield run.task, line, is_later(finals[run.folder])


def _without_seed(spec: RunSpec) -> str:
    """A run without its seed, and without its backbone: that may depend on local files."""
    what: dict[str, Any] = {
        name: getattr(spec, name) for name in ("version", "task", "method", "data", "profile")
    }
    return canonical_json(what | {"settings": asdict(spec.settings)})
