"""VTAB-1k: means of the task groups (Table 6), the 19 tasks (Table 12), and our small tasks."""

from collections.abc import Iterator
from math import isnan

from experiments.report import formats
from experiments.report.control import CONTROL
from experiments.report.rows import NOT_TRAINED, Column, Row, Section
from experiments.report.table import Block, Table
from experiments.vision import protocols
from experiments.vtab_vit.tasks import SMALL, TASKS

EXPERIMENT = "vtab_vit"
ROWS = (
    ("full", "Full"),
    ("bias", "Bias"),
    ("adapter", "Adapter"),
    ("sidetune", "Sidetune"),
    ("vpt-deep", "VPT"),
    ("zero-init", "Zero-init."),
    ("random-init", None),
    ("vpt-shallow", None),
    ("lora", None),
    ("linear", None),
)
GROUPS = ("Natural", "Specialized", "Structured")


def _column(title: str, tasks: tuple[str, ...], places: int) -> Column:
    return Column(
        "accuracy", title, "%", formats.decimals(places), scale=100, tasks=tasks, compared=True
    )


def _of_group(group: str) -> tuple[str, ...]:
    return tuple(task.name for task in TASKS.values() if task.group == group.lower())


def notes(section: Section) -> Iterator[str]:
    """Say by which protocol and which selection the accuracies were obtained."""
    first = section.begun[0]
    candidates = {
        len(settings.get("candidates") or ())
        for row in section.begun
        for settings in [run.settings for run in row.runs]
    }
    yield "Top-1 accuracy in percent, mean ± standard deviation (number of seeds)."
    inputs = {
        (run.settings["protocol"], run.settings["resolution"])
        for row in section.begun
        for run in row.runs
        if "protocol" in run.settings and "resolution" in run.settings
    }
    for name, resolution in sorted(inputs):
        yield f"Protocol {protocols.get(name, resolution).describe()}."
    yield (
        "Selection: learning rate and weight decay by accuracy on val200 after training on "
        f"train800, from {' or '.join(map(str, sorted(candidates)))} candidates a method and task "
        f"(seed {first.setting('selection_seed')}); then training on the 1,000, and the test set "
        "scored once, after the last epoch."
    )
    edge, choices = _at_the_edge(section)
    if edge:
        yield (
            f"In {edge} of {choices} choices (a method and a task each) the highest candidate rate "
            "was the best: there the grid may end too low."
        )
    yield NOT_TRAINED


def _at_the_edge(section: Section) -> tuple[int, int]:
    """How many choices took the highest rate that was tried, and of how many choices."""
    found = {}
    for row in section.begun:
        for run in row.done:
            rates = [rate for rate, _ in run.settings.get("candidates") or ()]
            if len(set(rates)) > 1 and run.settings.get("peak_lr") is None:
                found[section.label(row), run.task] = run.value("peak_lr") == max(rates)
    return sum(found.values()), len(found)


def chosen(row: Row) -> str:
    """Say what the selection chose, by task: learning rate / weight decay."""
    pairs = {
        (run.task, f"{run.value('peak_lr'):g} / {run.value('weight_decay'):g}")
        for run in row.done
        if not isnan(run.value("peak_lr"))  # nothing is trained
    }
    order = list(TASKS)
    texts = [f"{task} {pair}" for task, pair in sorted(pairs, key=lambda p: order.index(p[0]))]
    return f"chosen learning rate / weight decay: {', '.join(texts)}" if texts else ""


CHOSEN = {"peak_lr": float | None, "weight_decay": float | None}
TABLES = (
    Table(
        name="vtab_groups",
        experiment=EXPERIMENT,
        paper="vtab_groups",
        rows=ROWS,
        blocks=(Block(tuple(_column(group, _of_group(group), 2) for group in GROUPS)),),
        intro=(
            "A group's mean is over all of its official tasks, seed by seed; a group that lacks a "
            "task has none, and our small tasks are in no group."
        ),
        only={"phase": "final"},
        measured=CHOSEN,
        notes=notes,
        about_row=chosen,
    ),
    Table(
        name="vtab_tasks",
        experiment=EXPERIMENT,
        paper="vtab_tasks",
        rows=ROWS,
        blocks=(
            Block(
                tuple(_column(task.title, (task.name,), 1) for task in SMALL),
                "Small tasks: free data, none of VTAB's 19",
                paper=False,
                control=CONTROL,
            ),
            *(
                Block(
                    tuple(_column(TASKS[name].title, (name,), 1) for name in _of_group(group)),
                    f"{group} tasks",
                )
                for group in GROUPS
            ),
        ),
        intro=(
            "A small task counts only where a linear probe on the backbone beats one on the pixels."
        ),
        only={"phase": "final"},
        measured=CHOSEN,
        notes=notes,
        about_row=chosen,
    ),
)
