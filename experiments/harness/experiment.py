"""What an experiment hands to the harness: its name, its choices, and the functions to run it.

An experiment is a package `experiments/<name>/` whose `experiment.py` defines `EXPERIMENT`. That
module is imported whenever the command line starts, so it imports torch only inside functions.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from experiments.harness.folder import RunFolder
from experiments.harness.report_info import ReportInfo
from experiments.harness.spec import RunSpec


class NeedsData(Exception):  # noqa: N818 - an outcome, not an error
    """Raised by `rescore` where the references that a metric needs are absent; says which."""


@dataclass(frozen=True)
class Estimate:
    """What one run is expected to cost, and where that number comes from."""

    hours: float | None  # None: nobody has measured it yet
    memory_gb: float | None  # GB = 1e9 bytes, of the device the run is on
    source: str  # for example "measured on 2 CPU cores", "paper, 8 A100"


@dataclass(frozen=True)
class Answer:
    """One answer of `zia generate`: the prompt, and what each model makes of it."""

    prompt: str
    backbone: str
    adapted: str


def _nothing(spec: RunSpec) -> list[RunSpec]:
    return []


@dataclass(frozen=True)
class Experiment:
    """One experiment of the paper, as the harness sees it.

    `plan(profile, device)` lists every run of a profile, in the order in which they are worked off;
    `device` is "cpu" or "cuda". The first run of the plan is what `zia run` takes by default.
    `run(spec, folder)` does one run: it writes metrics, predictions and the result through `folder`
    and goes on from the folder's checkpoint where there is one.
    `requires(spec)` names the runs whose results that run reads, through `folder.result_of`: they
    are done before it, and it waits while one of them is not.
    `rescore(path)` recomputes, from `predictions.jsonl.gz` in a run folder, those fields of its
    `result.json` that follow from predictions; None where an experiment keeps no predictions.
    `generate(path, prompts, device)` answers prompts with the finished run in `path`, with and
    without its adapter; no prompts: the experiment's own. None where there is nothing to generate.
    `generate_image(path, image, prompts, device)` does the same about an image file.
    `report` is what tables, figures and claims have to know; without it they leave the runs out.
    """

    name: str
    version: int  # raised when numbers can change
    title: str  # one line for `zia list`
    settings: type  # the frozen dataclass of settings, every field with a default
    tasks: tuple[str, ...]
    methods: tuple[str, ...]
    profiles: tuple[str, ...]
    result_fields: Mapping[str, type]  # required keys of result.json and their types
    plan: Callable[[str, str], list[RunSpec]]
    run: Callable[[RunSpec, RunFolder], None]
    estimate: Callable[[RunSpec], Estimate]
    rescore: Callable[[Path], dict[str, float]] | None = None
    generate: Callable[[Path, Sequence[str], str], Iterable[Answer]] | None = None
    generate_image: Callable[[Path, Path, Sequence[str], str], Iterable[Answer]] | None = None
    requires: Callable[[RunSpec], list[RunSpec]] = _nothing
    report: ReportInfo | None = None
