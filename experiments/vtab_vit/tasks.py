"""The 19 tasks of VTAB-1k, in the order of the paper's Table 12, and our own small tasks.

Folder names are those of the layout that the field shares. The small tasks are sets that are free
to use and quick on a CPU: they are none of VTAB's 19, and no VTAB mean contains them.
"""

from dataclasses import dataclass
from typing import Literal

from zia_core.errors import ZiaError

Group = Literal["natural", "specialized", "structured", "small"]


@dataclass(frozen=True)
class Task:
    """One classification task; `train`, `val` and `test` are the images in each of its lists."""

    name: str  # also the folder
    title: str  # as in the paper's table
    group: Group
    classes: int
    test: int
    train: int = 800
    val: int = 200
    metric: Literal["top1"] = "top1"  # share of test images whose first guess is right

    @property
    def official(self) -> bool:
        """Whether this is one of VTAB-1k's 19 tasks."""
        return self.group != "small"


# Test sets of the structured tasks and of Retinopathy, EuroSAT and Resisc45 are VTAB's own cuts.
VTAB_1K = (
    Task("cifar", "CIFAR-100", "natural", classes=100, test=10_000),
    Task("caltech101", "Caltech101", "natural", classes=102, test=6_084),
    Task("dtd", "DTD", "natural", classes=47, test=1_880),
    Task("oxford_flowers102", "Flowers102", "natural", classes=102, test=6_149),
    Task("oxford_iiit_pet", "Pets", "natural", classes=37, test=3_669),
    Task("svhn", "SVHN", "natural", classes=10, test=26_032),
    Task("sun397", "SUN397", "natural", classes=397, test=21_750),
    Task("patch_camelyon", "Patch Camelyon", "specialized", classes=2, test=32_768),
    Task("eurosat", "EuroSAT", "specialized", classes=10, test=5_400),
    Task("resisc45", "Resisc45", "specialized", classes=45, test=6_300),
    Task("diabetic_retinopathy", "Retinopathy", "specialized", classes=5, test=42_670),
    Task("clevr_count", "Clevr/count", "structured", classes=8, test=15_000),
    Task("clevr_dist", "Clevr/distance", "structured", classes=6, test=15_000),
    Task("dmlab", "DMLab", "structured", classes=6, test=22_735),
    Task("kitti", "KITTI/distance", "structured", classes=4, test=711),
    Task("dsprites_loc", "dSprites/location", "structured", classes=16, test=73_728),
    Task("dsprites_ori", "dSprites/orientation", "structured", classes=16, test=73_728),
    Task("smallnorb_azi", "SmallNORB/azimuth", "structured", classes=18, test=12_150),
    Task("smallnorb_ele", "SmallNORB/elevation", "structured", classes=9, test=12_150),
)

# "_96": shorter side at most 96 pixels, and lists of our own, where VTAB has a task of that name.
SMALL = (
    Task("caltech101_96", "Caltech101, 96 px", "small", classes=102, test=1_712),
    Task("dtd10_96", "DTD, 10 classes, 96 px", "small", classes=10, test=400, train=640, val=160),
    Task("cifar10", "CIFAR-10", "small", classes=10, test=10_000),
    Task("digits", "digits 8x8", "small", classes=10, test=797),
    Task("fashion_mnist", "Fashion-MNIST", "small", classes=10, test=10_000),
)

TASKS = {task.name: task for task in VTAB_1K + SMALL}


def get(name: str) -> Task:
    """The task of that name; ZiaError lists the known ones."""
    if name not in TASKS:
        raise ZiaError(f"there is no task {name!r:.60}; choose from: {', '.join(TASKS)}")
    return TASKS[name]
