"""What the report needs to know of `vtab_vit`: task groups, and which of our tasks count."""

from collections.abc import Iterable, Mapping
from typing import Any

from experiments.harness.report_info import Control, ReportInfo, Score, TaskGroup
from experiments.images import protocols
from experiments.images.tasks import VTAB_GROUPS, Task
from experiments.mini_world.image_tasks import MINI
from experiments.vtab_vit.tasks import SMALL, TASKS, VTAB_1K


def _names(tasks: Iterable[Task]) -> tuple[str, ...]:
    return tuple(task.name for task in tasks)


def _inputs(settings: Mapping[str, Any]) -> str | None:
    if "protocol" not in settings or "resolution" not in settings:
        return None
    protocol = protocols.get(settings["protocol"], settings["resolution"])
    number = settings.get("adapted_blocks")
    adapted = f". Methods adapt the topmost {number} blocks" if number else ""
    return f"Protocol {protocol.describe()}{adapted}"


GENERATED = "generated tasks, none of VTAB's"


def _generated(tasks: Iterable[Task]) -> TaskGroup:
    return TaskGroup(_names(tasks), if_they_count=True, remark=GENERATED)


GROUPS = {
    **{name: TaskGroup(_names(t for t in VTAB_1K if t.group == name)) for name in VTAB_GROUPS},
    "vtab": TaskGroup(_names(VTAB_1K)),
    "small": TaskGroup(_names(SMALL), if_they_count=True),
    "mini": TaskGroup(_names(MINI), remark=GENERATED),
    # In the profile `mini`, what stands in for these groups.
    **{
        f"mini-{name}": _generated(task for task in MINI if task.group == f"mini-{name}")
        for name in VTAB_GROUPS
    },
    "mini-vtab": _generated(task for task in MINI if task.group != "mini-other"),
    "mini-small": _generated(MINI),
}
REPORT = ReportInfo(
    score=Score("accuracy", "top-1 accuracy (%)", scale=100),
    is_final=lambda task, settings: settings.get("phase") == "final",
    task_titles={task.name: task.title for task in TASKS.values()},
    short_titles={task.name: task.title.removesuffix(", 96 px") for task in TASKS.values()},
    groups=GROUPS,
    drawn_together=(*VTAB_GROUPS, "small", "mini"),
    averaged=("vtab", "small", "mini"),
    control=Control(
        method="linear",
        baseline="pixel-probe",
        tasks=_names(SMALL + MINI),
        sentence="A task of our own counts only where a linear probe beats one on the pixels.",
    ),
    inputs=_inputs,
)
