"""What a run of this experiment reads."""

from functools import partial

from experiments.backbones import vision_models
from experiments.harness.needs import DataSet, Needs
from experiments.harness.spec import RunSpec
from experiments.images.task_folder import FOLDER, load_task
from experiments.images.tasks import Task
from experiments.mini_world.provided import PROFILE as MINI
from experiments.vtab_vit import tasks
from experiments.vtab_vit.selection import select_runs

OFFICIAL = (
    "a vtab-1k archive, as the READMEs of NOAH, FacT and other VTAB-1k code link it: a folder a "
    "task, with images, train800.txt, val200.txt, train800val200.txt and test.txt"
)
SMALL = "`python -m experiments.vtab_vit.convert`"


def _data(task: Task) -> DataSet:
    return DataSet(
        f"{'VTAB-1k' if task.official else 'image task'} {task.name}",
        (f"{FOLDER}/{task.name}/",),
        OFFICIAL if task.official else SMALL,
        partial(load_task, task),
    )


def needs(spec: RunSpec) -> Needs:
    """Weights, the task, and the task that candidates are tried on if that is another."""
    weights = (vision_models.get(spec.backbone),)
    if spec.profile == MINI:
        return Needs(weights)
    names = [spec.task, *(each.task for each in select_runs(spec)[:1])]
    return Needs(weights, tuple(_data(tasks.get(name)) for name in dict.fromkeys(names)))
