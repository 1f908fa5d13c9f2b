"""Classification tasks: a set of images with labels, in lists of fixed length."""

from dataclasses import dataclass
from typing import Literal

Group = Literal[
    "natural", "specialized", "structured", "small",
    "mini-natural", "mini-specialized", "mini-structured", "mini-other",
]  # fmt: skip
VTAB_GROUPS = ("natural", "specialized", "structured")


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
        return self.group in VTAB_GROUPS
