"""VTAB-1k: means of the task groups (Table 6), the 19 tasks (Table 12), and our own tasks."""

from collections.abc import Iterator, Sequence
from math import isnan

from experiments.images import protocols
from experiments.images.tasks import Task
from experiments.mini_world.image_tasks import MINI
from experiments.report import formats
from experiments.report.pixel_control import CONTROL
from experiments.report.rows import NOT_TRAINED, Column, Row, Section
from experiments.report.runs import Run
from experiments.report.tables.definition import Block, Table
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


# Of the profile `mini`: never in one mean with the paper's tasks.
MINI_GROUPS = Block(
    tuple(_column(f"Mini {group}", _of_group(f"mini-{group}"), 2) for group in GROUPS),
    "Generated tasks, the digits real: none of VTAB's 19",
    paper=False,
)


def _own(tasks: Sequence[Task], caption: str) -> Block:
    """Columns of our own tasks, which count only where the backbone beats the pixels."""
    columns = tuple(_column(task.title, (task.name,), 1) for task in tasks)
    return Block(columns, caption, paper=False, control=CONTROL)


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
    elsewhere = sorted(
        {task for row in section.begun for run in row.runs if (task := _shared(run))}
    )
    each = "candidates a method and task"
    if elsewhere:
        titles = " and ".join(TASKS[task].title for task in elsewhere)
        each = f"candidates a method, tried on the task {titles} alone"
    yield (
        "Selection: learning rate and weight decay by accuracy on val200 after training on "
        f"train800, from {' or '.join(map(str, sorted(candidates)))} {each} "
        f"(seed {first.setting('selection_seed')}); then training on the 1,000, and the test set "
        "scored once, after the last epoch."
    )
    yield from _edges(section)
    yield NOT_TRAINED


def _shared(run: Run) -> str | None:
    """The one task that a run's candidates were tried on, for all tasks; None if on its own."""
    task = run.settings.get("selection_task")
    return None if task is None or run.settings.get("peak_lr") is not None else str(task)


def _edges(section: Section) -> Iterator[str]:
    """Say where the lowest or the highest rate that was tried was the best: the grid ends there."""
    found: dict[tuple[str, str], str] = {}  # by method and the task of the choice
    for row in section.begun:
        for run in row.done:
            rates = {rate for rate, _ in run.settings.get("candidates") or ()}
            if len(rates) > 1 and run.settings.get("peak_lr") is None:
                ends = {min(rates): "lowest", max(rates): "highest"}
                choice = section.label(row), _shared(run) or run.task
                found[choice] = ends.get(run.value("peak_lr"), "")
    for end in ("highest", "lowest"):
        where = [choice for choice, at in found.items() if at == end]
        if where:
            methods = dict.fromkeys(label for label, _ in where)
            named = [
                f"{label} ({', '.join(TASKS[task].title for one, task in where if one == label)})"
                for label in methods
            ]
            yield (
                f"In {len(where)} of {len(found)} choices the {end} candidate rate was the best, "
                f"so the grid may end too early there: {'; '.join(named)}."
            )


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
        blocks=(
            MINI_GROUPS,
            Block(tuple(_column(group, _of_group(group), 2) for group in GROUPS)),
        ),
        intro=(
            "A group's mean is over all of its official tasks, seed by seed; a group that lacks a "
            "task has none. The generated tasks of mini have groups of their own, the small tasks "
            "none."
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
            _own(SMALL, "Small tasks: free data, none of VTAB's 19"),
            _own(MINI, MINI_GROUPS.caption),
            *(
                Block(
                    tuple(_column(TASKS[name].title, (name,), 1) for name in _of_group(group)),
                    f"{group} tasks",
                )
                for group in GROUPS
            ),
        ),
        intro=(
            "A task of our own counts only where a linear probe on the backbone beats one on the "
            "pixels."
        ),
        only={"phase": "final"},
        measured=CHOSEN,
        notes=notes,
        about_row=chosen,
    ),
)
