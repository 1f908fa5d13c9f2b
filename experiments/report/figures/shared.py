"""What the figures of runs have in common: sections of final runs, and their names."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from experiments.report.rows import (
    SECTION_OF_TASKS,
    Section,
    sections,
    training_fell,
    validation_fell,
)
from experiments.report.runs import Runs, select

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass(frozen=True)
class Score:
    """What a run of an experiment is judged by."""

    field: str
    title: str  # with its unit
    scale: float = 1.0
    higher_is_better: bool = True
    only: "dict[str, object] | None" = None  # settings of the runs that are judged
    tasks: tuple[str, ...] = ()  # those that are judged; empty: all


SCORES = {
    "alpaca_llama": Score("val_loss", "validation loss (nats a token)", higher_is_better=False),
    "vtab_vit": Score("accuracy", "top-1 accuracy (%)", 100, only={"phase": "final"}),
    "squad_roberta": Score("f1", "F1 (%)", only={"phase": "final"}),
    # Its ablations have figures of their own.
    "scienceqa": Score(
        "acc_average",
        "accuracy (%)",
        only={"evaluated_on": "test"},
        tasks=("qcm-a", "own-split"),
    ),
    "coco_caption": Score("CIDEr", "CIDEr (x 100)", 100),
}


@dataclass(frozen=True)
class Drawn:
    """A figure with the stem of its files."""

    name: str
    figure: "Figure"


def final_sections(runs: Runs, experiment: str) -> list[Section]:
    """Return the runs that count, by profile, backbone, data and version."""
    score = SCORES[experiment]
    losses = ("train_loss_first", "train_loss_last")
    ends = ("val_loss_start", "val_loss") if experiment == "alpaca_llama" else losses
    fields: dict[str, Any] = dict.fromkeys((score.field, "tuned_parameters", *ends), float | None)
    found = select(runs, experiment, fields, score.only)
    found = [run for run in found if not score.tasks or run.task in score.tasks]
    fell = validation_fell if experiment == "alpaca_llama" else training_fell
    return [s for s in sections(found, (), SECTION_OF_TASKS, fell) if s.key]


def tasks(section: Section) -> list[str]:
    """Return the tasks that have runs, in the order of the experiment's list."""
    seen = {task for row in section.rows for task in {run.task for run in row.runs}}
    from experiments.vtab_vit.tasks import TASKS

    return [task for task in TASKS if task in seen] + sorted(seen - set(TASKS))


def groups(section: Section) -> dict[tuple[str, ...], list[str]]:
    """Return the tasks of a section that stand in one figure: those of one group of VTAB, or all.

    The key is the name of the group, if there is one; the few tasks of `mini` stand together.
    """
    from experiments.vtab_vit.tasks import TASKS

    found: dict[tuple[str, ...], list[str]] = {}
    for task in tasks(section):
        group = (TASKS[task].group.split("-")[0],) if task in TASKS else ()
        found.setdefault(group, []).append(task)
    return found


def title_of(task: str) -> str:
    """Return the task as tables name it, less what is too long for half a column."""
    from experiments.vtab_vit.tasks import TASKS

    return TASKS[task].title.removesuffix(", 96 px") if task in TASKS else task


def stem(kind: str, experiment: str, section: Section, *more: str) -> str:
    """Return the name of a figure of a section: nothing else has the same."""
    key = section.key
    parts = (kind, experiment, key["profile"], key["backbone"], key["data"], f"v{key['version']}")
    return re.sub(r"[^A-Za-z0-9._-]+", "-", "-".join((*parts, *more)))


def subtitle(section: Section) -> str:
    """Return what a figure is of, in one line."""
    key = section.key
    return f"{key['profile']}: {key['backbone']}, {key['data']}"


def grid(count: int) -> tuple[int, int]:
    """Return rows and columns of panels: two abreast in a column."""
    return (count + 1) // 2, min(count, 2)


def flat(panels: Any) -> Iterator[Any]:
    """Return panels one after another, also where there is a single one."""
    import numpy as np

    yield from np.atleast_1d(panels).ravel()
