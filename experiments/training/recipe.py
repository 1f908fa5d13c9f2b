"""Build the run specs of a plan from a table of methods and numbers of seeds."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from experiments.harness.spec import RunSpec


@dataclass(frozen=True)
class Recipe:
    """What the runs of a profile share, and what each method changes."""

    experiment: str
    version: int
    profile: str
    backbone: str
    data: str
    settings: Any  # an instance of the experiment's settings
    methods: Mapping[str, Mapping[str, Any]]  # the settings that a method changes
    seeds: Sequence[int] = (0, 1, 2, 3, 4)

    def runs(self, task: str, counts: Mapping[str, int], **changes: Any) -> Iterator[RunSpec]:
        """Yield the runs of a task, method by method: the first `counts[method]` seeds of each.

        `changes` are settings of these runs alone; they override those of the method.
        """
        for method, count in counts.items():
            settings = replace(self.settings, **{**self.methods[method], **changes})
            for seed in self.seeds[:count]:
                yield RunSpec(
                    experiment=self.experiment,
                    version=self.version,
                    task=task,
                    method=method,
                    backbone=self.backbone,
                    data=self.data,
                    profile=self.profile,
                    seed=seed,
                    settings=settings,
                )
